"""From the trials of any number of arms to pairs of arms, which are what is compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.analysis.blocks import ROLES
from bench.records import Role, Trial, role_number


def pairs_of(trials: Sequence[Trial]) -> tuple[tuple[Trial, ...], ...]:
    """The trials of the control and of one treatment, for each treatment.

    In each pair the roles are control and treatment, and trials have the places that they have
    among those of the pair. Trials of two arms, or of one, are a pair as they are.
    """
    roles = {trial.role for trial in trials}
    if roles <= {*ROLES}:
        return (tuple(trials),)
    treatments = sorted(roles - {"control"}, key=role_number)
    return tuple(_pair(trials, role) for role in treatments)


def _pair(trials: Sequence[Trial], treatment: Role) -> tuple[Trial, ...]:
    names = {"control": "control", treatment: "treatment"}
    found = []
    # In a search no place is planned: places are counted.
    counted: dict[int, int] = {}
    for one in sorted(trials, key=lambda trial: (trial.block, trial.position)):
        if one.role not in names:
            continue
        position = counted.get(one.block, 0)
        if one.scenario.search_step is None:
            position = sum(role in names for role in one.due[: one.position])
        counted[one.block] = counted.get(one.block, 0) + 1
        due = tuple(names[role] for role in one.due if role in names)
        found.append(replace(one, role=names[one.role], position=position, due=due))
    return tuple(found)
