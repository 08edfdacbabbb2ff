"""What the tools define, do or leave out differently from the built-in driver.

Said in every report that rests on them. Versions: aiperf 0.13.0, genai-perf 0.0.16.
"""

from __future__ import annotations

_ELSEWHERE = (
    "dispatch lag is by the tool's own account; event loop lag and client CPU are not known,"
    " so no check of validity rests on them"
)
_NO_REPLICA = "which replica answered is not recorded"

AIPERF = (
    "a request counts as sent before its connection is made: TTFT and E2E include that where"
    " a connection is new",
    "times are due to the millisecond, and counted from the earliest instant at which no"
    " request was early",
    "answers that broke off are told from whole ones by the missing token usage only;"
    " requests that hang are not recorded at all and count as not sent",
    _NO_REPLICA,
    _ELSEWHERE,
)

GENAI_PERF = (
    "an open loop is offered at the same mean rate, but at Poisson-distributed times of its"
    " own: scheduled metrics count from sending, and hide what a late client hides",
    "a closed loop works off the whole list; requests sent after the window are left out",
    "the first request that fails ends it, and one whose stream breaks off hangs it: there"
    " are no numbers then, in place of an error rate",
    _NO_REPLICA,
    _ELSEWHERE,
)
