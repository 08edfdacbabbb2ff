"""What a load generator is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Job:
    """`requests` streamed chat completions of `chunks` events each, `streams` at a time.

    `tokenizer` is a folder in Hugging Face layout, `folder` one for what the program writes.
    """

    port: int
    model: str
    tokenizer: Path
    folder: Path
    streams: int
    requests: int
    chunks: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"
