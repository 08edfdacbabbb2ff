"""Service level objectives, read from one YAML file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from bench.config.yamlfile import Share, lines_of, load_yaml, strict
from bench.errors import UserError
from bench.records import Slo

DEFAULT_SLO = Path(__file__).parents[1] / "slo.yaml"

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]

# Keys of a scenario's entry that are not objectives.
_PARTS = {"models", "tenants"}


@strict
class Objectives(TypedDict, total=False):
    """Objectives as written: one that is absent is inherited, `null` sets none."""

    ttft_s: Seconds | None
    tpot_s: Seconds | None
    e2e_s: Seconds | None
    attainment: Share


@strict
class ScenarioObjectives(Objectives, total=False):
    """Objectives of a scenario, and what is different for some of its models and tenants."""

    models: dict[str, Objectives]
    tenants: dict[str, Objectives]


@strict
class SloFile(TypedDict, total=False):
    """All objectives, as written."""

    default: Objectives
    scenarios: dict[str, ScenarioObjectives]


@dataclass(frozen=True, slots=True)
class Slos:
    """All objectives of one file."""

    path: Path
    written: SloFile

    def resolve(self, scenario: str, model: str, tenant: str = "") -> Slo:
        """The objectives of a request to `model` in a scenario, of `tenant` if that is given."""
        merged: dict[str, Any] = {}
        for _, level in self._levels(scenario, model, tenant):
            merged |= level
        return Slo(**merged)

    def lines(self, scenario: str, model: str, tenant: str = "") -> Mapping[str, int | None]:
        """The line of the file that sets each objective of such a request, by its name."""
        line_of = lines_of(self.path)
        return {
            key: line_of((*place, key))
            for place, level in self._levels(scenario, model, tenant)
            for key in level
        }

    def models_of(self, scenario: str) -> tuple[str, ...]:
        """The models that have objectives of their own in a scenario."""
        return tuple(self.written.get("scenarios", {}).get(scenario, {}).get("models", {}))

    def _levels(
        self, scenario: str, model: str, tenant: str
    ) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
        """Places of the file, and the objectives there; the one that counts most is last."""
        of_scenario = self.written.get("scenarios", {}).get(scenario, {})
        place = ("scenarios", scenario)
        levels: tuple[tuple[tuple[str, ...], Mapping[str, Any]], ...] = (
            (("default",), self.written.get("default", {})),
            (place, of_scenario),
            ((*place, "models", model), of_scenario.get("models", {}).get(model, {})),
            ((*place, "tenants", tenant), of_scenario.get("tenants", {}).get(tenant, {})),
        )
        for where, level in levels:
            yield where, {key: value for key, value in level.items() if key not in _PARTS}

    def check_tenants(self, scenario: str, tenants: Collection[str]) -> None:
        """Raise UserError for a tenant that the scenario does not have."""
        for tenant in self.written.get("scenarios", {}).get(scenario, {}).get("tenants", {}):
            place = f"scenarios.{scenario}.tenants.{tenant}"
            _known(self.path, place, tenant, set(tenants) or {"none"})

    def check_names(self, scenarios: set[str], models: set[str]) -> None:
        """Raise UserError for an entry of an unknown scenario or model."""
        for scenario, entry in self.written.get("scenarios", {}).items():
            _known(self.path, f"scenarios.{scenario}", scenario, scenarios)
            for model in entry.get("models", {}):
                _known(self.path, f"scenarios.{scenario}.models.{model}", model, models)


def load_slos(path: Path = DEFAULT_SLO) -> Slos:
    """Read an SLO file. Raises UserError with one line for any mistake in it."""
    return Slos(path, load_yaml(path, SloFile))


def _known(path: Path, place: str, name: str, names: set[str]) -> None:
    if name not in names:
        raise UserError(f"{path}: {place}: unknown name; known: {', '.join(sorted(names))}")
