"""Colours of charts and pages: arms that colour-blind eyes can distinguish, verdicts by meaning."""

from __future__ import annotations

from bench.records import Role, SloOutcome, Verdict

INK = "#1f2328"
MUTED = "#59636e"
RULE = "#d8dee4"
BAND = "#eef1f4"

# They differ in lightness as well as in hue.
ARM: dict[Role, str] = {"control": "#a65a12", "treatment": "#0b5cad"}

OUTCOME: dict[Verdict | SloOutcome, str] = {
    Verdict.BETTER: "#1a7f37",
    Verdict.WORSE: "#c4282d",
    Verdict.EQUIVALENT: "#57728c",
    Verdict.INCONCLUSIVE: "#96650b",
    Verdict.INVALID: "#7a43c9",
    SloOutcome.MET: "#1a7f37",
    SloOutcome.MISSED: "#c4282d",
    SloOutcome.UNDECIDED: "#96650b",
    SloOutcome.UNSET: "#59636e",
}

# Replicas in one chart, distinct also for colour-blind eyes and from the arms; further ones
# are muted.
REPLICAS = ("#44aa99", "#882255", "#332288", "#999933", "#cc6677", "#117733")
