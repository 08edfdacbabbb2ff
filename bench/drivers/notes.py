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
    "answers that broke off are told from whole ones by their token usage only;"
    " requests that hang are not recorded at all and count as not sent",
    "server-sent events end with a blank line of LF or of CRLF for it, not of CR",
    _NO_REPLICA,
    _ELSEWHERE,
)

GENAI_PERF = (
    "an open loop is offered at the same mean rate, but at Poisson-distributed times of its"
    " own: scheduled metrics count from sending, and hide what a late client hides",
    "a closed loop works off the whole list; requests sent after the window, and prompts sent"
    " again when the list was over, are left out",
    "the first request that fails ends it, and one whose stream breaks off hangs it: there"
    " are no numbers then, in place of an error rate",
    _NO_REPLICA,
    _ELSEWHERE,
)

# What artifacts say that somebody else's run has left.

_FOREIGN = "converted from artifacts: what served, and on what, is not known here"
_RECOMPUTED = (
    "metrics are computed again from the recorded times, by the definitions here: they need"
    " not equal the tool's own report"
)
_PROMPTS = "prompt lengths are those that the server counted, chat template included"
_SUMMARY = (
    "only the tool's own statistics are known: its definitions hold, there are no samples,"
    " and the validity of the measurement cannot be checked"
)
_TPOT = (
    "TPOT is the tool's inter token latency: it divides by tokens that the client counted by"
    " encoding the answer again, which differ from the server's count"
)
_SURVIVORS = (
    "latencies are of requests that succeeded, counted from sending: failures and a client"
    " that fell behind are not in them"
)

CONVERTED_RECORDS = {
    "aiperf": (_FOREIGN, _RECOMPUTED, _PROMPTS, AIPERF[0], AIPERF[2], _ELSEWHERE),
    "genai-perf": (_FOREIGN, _RECOMPUTED, _PROMPTS, GENAI_PERF[2], _ELSEWHERE),
}
CONVERTED_SUMMARY = {
    "aiperf": (_FOREIGN, _SUMMARY, f"{_TPOT} (unless told to use it)", _SURVIVORS, AIPERF[0]),
    "genai-perf": (
        _FOREIGN,
        _SUMMARY,
        _TPOT,
        _SURVIVORS,
        "events that were read at once count as one chunk, with one time",
    ),
}
