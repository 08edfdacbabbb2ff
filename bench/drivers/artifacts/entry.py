"""One request as a tool recorded it, the sample made from it, and reading of the tool's files."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import yaml
from pydantic import Field

from bench.errors import UserError
from bench.load.client.answer import Answer
from bench.records import Instrument, PlannedRequest, Sample
from bench.yaml_aliases import check_aliases

NS_PER_S = 1_000_000_000

# What a file's figures of a request must be, so that sums and differences of them are finite.
Duration = Annotated[float, Field(ge=0, le=1e18)]
Tokens = Annotated[int, Field(ge=0, lt=2**31)]
Nanoseconds = Annotated[int, Field(ge=0, lt=2**63)]


@dataclass(frozen=True, slots=True)
class Entry:
    """One request. `issued_ns` and `sent_ns` are of the tool's clock.

    `issued_ns` is when it was due by the tool's own account. The times of the answer's chunks
    are seconds from `sent_ns`. Its token counts are the server's, None if not reported.
    """

    name: str
    issued_ns: int
    sent_ns: int
    answer: Answer

    def sample(self, planned: PlannedRequest, zero_ns: int, scheduled_s: float) -> Sample:
        """The sample of `planned`; its times count from `zero_ns`."""
        sent_s = (self.sent_ns - zero_ns) / NS_PER_S
        chunk_s = tuple(sent_s + after_s for after_s in self.answer.chunk_s)
        return self.answer.sample(planned, scheduled_s=scheduled_s, sent_s=sent_s, chunk_s=chunk_s)


def elapsed_s(samples: Sequence[Sample]) -> float:
    """From the start to the last request sent, or the last chunk."""
    return max(
        (at_s for one in samples for at_s in (one.sent_s, one.last_token_s) if at_s is not None),
        default=0.0,
    )


def instrument(samples: Sequence[Sample]) -> Instrument:
    """What the samples show of the tool's own work."""
    lags_s = [one.sent_s - one.scheduled_s for one in samples if one.sent_s is not None]
    return Instrument(
        dispatch_lag_p99_s=float(np.percentile(lags_s, 99)) if lags_s else 0.0,
        loop_lag_p99_s=None,
        cpu_share=None,
    )


def read_text(path: Path) -> str:
    """The text of a file, without a half written last character. Raises UserError."""
    try:
        return codecs.getincrementaldecoder("utf-8-sig")().decode(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise damaged(path, f"not UTF-8 text at byte {error.start}") from error


def read_yaml(text: str) -> Any:
    """The value of a document of YAML. Raises ValueError for other text."""
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        check_aliases(node)
        return loader.construct_document(node)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(str(error)) from error


def damaged(path: Path, why: str) -> UserError:
    """What to raise for a file that does not hold what its name promises."""
    return UserError(f"{path} is damaged or of another tool: {' '.join(why.split())}")
