"""Whether the instrument did its work, judged before the system is.

Every reason is one line with the value seen and its bound. What is invalid has no
verdict: its numbers say as much about the client as about the arms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from bench.analysis.blocks import ROLES, Block
from bench.analysis.checks import ValidityBounds, check_reasons, place, trial_reasons
from bench.analysis.metrics import Metric
from bench.records import ErrorKind, Sample, Trial


def invalid_reasons(
    blocks: Sequence[Block], primary: Metric, bounds: ValidityBounds
) -> tuple[str, ...]:
    """Why what `blocks` show must not be judged; empty when it may."""
    return (
        *trial_reasons([trial for block in blocks for trial in block.trials]),
        *check_reasons([block.trials for block in blocks], bounds),
        *_unlike_schedules(blocks),
        *(reason for arm in arms(blocks) for reason in arm_reasons(arm, bounds)),
        *too_few(primary, blocks),
    )


def dead_replicas(blocks: Sequence[Block]) -> tuple[str, ...]:
    """A line for every replica that was found dead, with the first trial that met it."""
    first: dict[str, Trial] = {}
    for block in blocks:
        for trial in block.trials:
            first |= {name: trial for name in trial.dead_replicas if name not in first}
    return tuple(f"dead replica: {name} after {place(trial)}" for name, trial in first.items())


def too_few(metric: Metric, blocks: Sequence[Block]) -> tuple[str, ...]:
    """A line when the metric rests on too few values in some block."""
    counts = [
        (metric.n(trials), block.index, role)
        for block in blocks
        for role in ROLES
        if (trials := block.of(role))
    ]
    fewest, index, role = min(counts, default=(metric.minimum_n, 0, ROLES[0]))
    if fewest >= metric.minimum_n:
        return ()
    return (
        f"{metric.name} rests on {fewest} values in block {index} ({role});"
        f" it needs {metric.minimum_n}: lengthen the trials or raise the rate",
    )


def arms(blocks: Sequence[Block]) -> Iterator[tuple[Trial, ...]]:
    """All trials of each role that was run, control first."""
    for role in ROLES:
        if trials := tuple(trial for block in blocks for trial in block.of(role)):
            yield trials


def _unlike_schedules(blocks: Sequence[Block]) -> Iterator[str]:
    """A line for every block in which the arms did not replay the same schedules.

    In a search an arm may meet loads that the other does not; there is nothing to compare.
    """
    for block in blocks:
        if block.searched:
            continue
        seen = [sorted(trial.schedule_sha256 for trial in block.of(role)) for role in ROLES]
        if all(seen) and seen[0] != seen[1]:
            told = " and ".join(", ".join(one[:12] for one in hashes) for hashes in seen)
            yield f"the arms of block {block.index} replayed different schedules: {told}"


def arm_reasons(trials: Sequence[Trial], bounds: ValidityBounds) -> Iterator[str]:
    """Why the work of an arm does not count: too many failures, other token counts.

    Requests that bypassed it count as well: they are part of what its replicas had to do.
    """
    samples = _samples(trials)
    failed = [sample for sample in samples if not sample.ok]
    if len(failed) > bounds.error_rate * len(samples):
        yield (
            f"{arm_name(trials)}: {len(failed)} of {len(samples)} requests failed, bound"
            f" {100 * bounds.error_rate:.1f} %; mostly {_commonest(failed)}"
        )
    answered = [sample for sample in samples if sample.ok]
    unlike = [sample for sample in answered if not _as_asked(sample)]
    if len(unlike) > (1 - bounds.token_match) * len(answered):
        yield (
            f"{arm_name(trials)}: {len(unlike)} of {len(answered)} answers have other token"
            f" counts than asked, bound {100 * (1 - bounds.token_match):.1f} %; {_example(unlike)}"
        )


def failures(trials: Sequence[Trial]) -> Iterator[str]:
    """A line on what failed, by kind with the first one's words; none where nothing did."""
    samples = _samples(trials)
    failed = [sample for sample in samples if sample.error is not None]
    kinds = Counter(sample.error for sample in failed).most_common()
    if kinds:
        told = (f"{count} {kind}{_detail(failed, kind)}" for kind, count in kinds)
        yield (
            f"{arm_name(trials)}: {len(failed)} of {len(samples)} requests failed: "
            f"{', '.join(told)}"
        )


def unlike_failures(arms: Sequence[Sequence[Trial]]) -> Iterator[str]:
    """A line where the arms failed different shares of their requests, however small."""
    counts = [(sum(not one.ok for one in own), len(own)) for own in map(_samples, arms)]
    shares = {failed / attempted for failed, attempted in counts if attempted}
    if len(shares) > 1:
        told = (
            f"{arm_name(arm)} {100 * failed / attempted if attempted else 0:.2f} %"
            f" ({failed} of {attempted})"
            for arm, (failed, attempted) in zip(arms, counts, strict=True)
        )
        yield f"the arms failed different shares of their requests: {', '.join(told)}"


def starved_replicas(trials: Sequence[Trial]) -> Iterator[str]:
    """A line for every replica that answered nothing for the arm.

    No reason against validity, since a policy may avoid a replica. Nothing can be told
    where answers do not name theirs. Balancers may name a replica by its URL.
    """
    answered_by = {s.replica for trial in trials for s in trial.samples if s.ok and s.replica}
    replicas = dict.fromkeys(one for trial in trials for one in trial.replicas)
    for replica in replicas if answered_by else ():
        in_use = replica.model in trials[0].models
        if in_use and not answered_by & {replica.name, replica.url}:
            yield f"{arm_name(trials)}: replica {replica.name} answered no request"


def unattributed(trials: Sequence[Trial]) -> Iterator[str]:
    """A line where the answers of an arm do not tell which replica gave them.

    Through kube-proxy none does: it spreads connections, and nothing of HTTP passes through it.
    """
    answered = [sample for trial in trials for sample in trial.samples if sample.ok]
    unnamed = sum(sample.replica is None for sample in answered)
    if unnamed and trials[0].replicas:
        yield (
            f"{arm_name(trials)}: which replica gave an answer is not known for {unnamed} of"
            f" {len(answered)} (connections: {trials[0].connections}); how many each gave is by"
            " its own count"
        )


def arm_name(trials: Sequence[Trial]) -> str:
    return f"{trials[0].role} {trials[0].arm}"


def _samples(trials: Sequence[Trial]) -> list[Sample]:
    return [sample for trial in trials for sample in trial.samples + trial.bypassed]


def _as_asked(sample: Sample) -> bool:
    wanted = (sample.wanted_prompt_tokens, sample.wanted_output_tokens)
    return (sample.prompt_tokens, sample.output_tokens) == wanted


def _commonest(failed: Sequence[Sample]) -> str:
    kind, _ = Counter(sample.error for sample in failed).most_common(1)[0]
    return f"{kind}{_detail(failed, kind)}"


def _detail(failed: Sequence[Sample], kind: ErrorKind | None) -> str:
    """What the first one of that kind said."""
    detail = next((s.detail for s in failed if s.error is kind and s.detail), None)
    return f" ({' '.join(detail.split())})" if detail else ""


def _example(unlike: Sequence[Sample]) -> str:
    one = unlike[0]
    return (
        f"first: {one.prompt_tokens} + {one.output_tokens} for"
        f" {one.wanted_prompt_tokens} + {one.wanted_output_tokens}"
    )
