"""Which core does what, so that a proxy shares its own with nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Layout:
    """Cores by number. The proxies take turns on `proxy`; the load may use all of `load`."""

    proxy: int
    source: int
    load: tuple[int, ...]

    def facts(self) -> dict[str, Any]:
        """As JSON values."""
        return {"proxy": self.proxy, "source": self.source, "load": list(self.load)}


def lay_out(cores: Sequence[int]) -> Layout:
    """A core for the proxies, one for the source, the others for the load.

    Of two cores the source shares one with the load; of one, all share it.
    """
    return Layout(proxy=cores[-1], source=cores[0], load=tuple(cores[1:-1]) or (cores[0],))
