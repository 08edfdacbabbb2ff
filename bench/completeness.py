"""Which answers are complete: what was not answered in full has failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.records import ErrorKind, Sample


def fail_incomplete(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """The samples of one trial, with every incomplete answer as a failed request.

    Every request asks for an exact number of tokens, so that an answer with fewer is not
    complete, whatever its finish reason. The server's token count comes last in a stream: where
    some answers have one, an answer without one broke off before its end.
    """
    counted = any(sample.output_tokens is not None for sample in samples)
    return tuple(_checked(sample, counted) for sample in samples)


def _checked(sample: Sample, counted: bool) -> Sample:
    if not sample.ok:
        return sample
    tokens, wanted = sample.output_tokens, sample.wanted_output_tokens
    if tokens is None:
        why = "the stream ended without token usage"
        return replace(sample, error=ErrorKind.TRUNCATED, detail=why) if counted else sample
    if tokens < wanted:
        why = f"{tokens} of {wanted} tokens"
        return replace(sample, error=ErrorKind.SHORT, detail=why)
    return sample
