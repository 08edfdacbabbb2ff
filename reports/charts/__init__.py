"""The charts of a case. A module here with `charts(case, caption)` adds its own."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from types import ModuleType

from bench.analysis.judgement import Case
from reports.charts.style import Chart, Picture
from reports.run import short_title

# The order in which they are shown; charts of other modules follow.
_ORDER = (
    *("load", "cdf", "forest", "margins", "replicas", "over_time", "kv_cache", "memory"),
    *("quantiles", "interactivity"),
)


def pictures_of(case: Case, setup: str) -> tuple[Picture, ...]:
    """The charts that the case has data for; `setup` goes into their captions."""
    return tuple(chart.picture() for chart in charts_of(case, setup))


def charts_of(case: Case, setup: str) -> list[Chart]:
    """The same, before they become pictures."""
    if not case.trials:
        return []
    caption = f"{short_title(case.judgement)} · {setup}"
    return [one for module in _modules() for one in module.charts(case, caption)]


@cache
def _modules() -> tuple[ModuleType, ...]:
    """The modules here that have charts."""
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    others = [name for name in names if name not in _ORDER]
    modules = [import_module(f"{__name__}.{name}") for name in (*_ORDER, *others)]
    return tuple(module for module in modules if hasattr(module, "charts"))
