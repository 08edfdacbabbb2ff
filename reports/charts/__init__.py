"""The charts of a case. A module here that has `charts_of(case, caption)` makes some of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pkgutil import iter_modules

from reports.case import Case, short_title
from reports.charts.style import Chart, Picture

# Modules in the order in which their charts are shown; others come after these, by name.
ORDER = ("load", "cdf", "forest", "replicas", "over_time")


def pictures_of(case: Case, setup: str) -> tuple[Picture, ...]:
    """The charts that the case has data for; `setup` goes into their captions."""
    if not case.trials:
        return ()
    caption = f"{short_title(case.judgement)} · {setup}"
    return tuple(chart.picture() for make in _makers() for chart in make(case, caption))


def _makers() -> Iterator[Callable[[Case, str], Iterable[Chart]]]:
    """`charts_of` of each module that has it."""
    names = [module.name for module in iter_modules(__path__)]
    others = sorted(name for name in names if name not in ORDER)
    for name in (*ORDER, *others):
        module = import_module(f"{__name__}.{name}")
        if hasattr(module, "charts_of"):
            yield module.charts_of
