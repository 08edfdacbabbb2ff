"""What is asked of the instrument before the system is judged."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ValidityBounds:
    """Bounds of the validity checks.

    Each holds for a block as a whole, and so for both arms alike.

    `lag_floor_s`, `lag_share`: the client may be late (dispatch, event loop; p99) by
    the larger of the floor and this share of the block's scheduled TTFT p95, so
    that its lateness stays small beside what is measured.
    `client_cpu_share`: of one core; beyond it the client measures itself.
    `slip_share`: of the trial's window, by which the client may come to send later and
    later, but at least `lag_floor_s`. `error_floor_s`, `error_share`: the client's median
    timing may be off by the larger of the floor and this share of the block's TTFT p50.
    `foreign_cpu_share`, `stolen_cpu_share`: of all cores' time, which others had through the
    block: a neighbour that is always there is a condition, and a moment's work is noise, which
    the interval has in it.
    `sent_share`: of a trial's planned requests. `error_rate`: of an arm's requests;
    beyond it the arms no longer did the same work. `token_match`: share of an arm's
    answers with exactly the prompt and output tokens that were asked for.
    """

    lag_floor_s: float = 0.05
    lag_share: float = 0.10
    client_cpu_share: float = 0.90
    slip_share: float = 0.01
    error_floor_s: float = 0.005
    error_share: float = 0.05
    foreign_cpu_share: float = 0.20
    stolen_cpu_share: float = 0.10
    sent_share: float = 0.95
    error_rate: float = 0.02
    token_match: float = 0.99


DEFAULT_BOUNDS = ValidityBounds()
