"""Where a tool that spreads its requests over base URLs in turn has to send."""

from __future__ import annotations

from collections.abc import Sequence

from bench.errors import UserError
from bench.records import Schedule


def base_urls(driver: str, urls: Sequence[str]) -> tuple[str, ...]:
    """The base URLs that `urls`, one for each request, name in turn.

    Raises UserError where they do not: such a tool cannot send one request elsewhere.
    """
    distinct = tuple(dict.fromkeys(urls))
    if any(url != distinct[index % len(distinct)] for index, url in enumerate(urls)):
        raise UserError(
            f"driver {driver} cannot send single requests past the balancer;"
            " measure this scenario with --driver builtin or openai"
        )
    return distinct


def require_nobody_told_apart(driver: str, schedule: Schedule) -> None:
    """Raises UserError where requests are sent for tenants: a tool has one set of headers."""
    if any(request.tenant for request in schedule.requests):
        raise UserError(
            f"driver {driver} cannot tell tenants apart;"
            " measure this scenario with --driver builtin or openai"
        )
