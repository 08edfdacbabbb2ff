"""How much time a comparison may take: the values of `--profile`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """The budget of one comparison.

    `looks` are the numbers of blocks after which a verdict is sought, the last one at most. A
    block is two trials of each arm, of `trial_s` each. One run of the measurement of capacity
    takes `capacity_s`. The requests of a trial may take until `drain_s` after its window.
    """

    name: str
    looks: tuple[int, ...]
    trial_s: float
    capacity_s: float
    drain_s: float


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("auto", looks=(4, 6, 8, 12, 16), trial_s=3.5, capacity_s=4.0, drain_s=20.0),
        Profile("quick", looks=(4, 6, 8), trial_s=3.5, capacity_s=4.0, drain_s=20.0),
        Profile("standard", looks=(4, 6, 8, 12), trial_s=20.0, capacity_s=15.0, drain_s=40.0),
        Profile("thorough", looks=(4, 6, 8, 12), trial_s=60.0, capacity_s=30.0, drain_s=60.0),
    )
}
