"""Service level objectives, read from one YAML file."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from bench.config.yamlfile import Share, load_yaml, strict
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
    models: dict[str, Objectives]
    tenants: dict[str, Objectives]


@strict
class SloFile(TypedDict, total=False):
    default: Objectives
    scenarios: dict[str, ScenarioObjectives]


@dataclass(frozen=True, slots=True)
class Slos:
    """All objectives of one file."""

    path: Path
    written: SloFile

    def resolve(self, scenario: str, model: str, tenant: str = "") -> Slo:
        """The objectives of a request to `model` in a scenario, of `tenant` if that is given."""
        of_scenario = self.written.get("scenarios", {}).get(scenario, {})
        of_model = of_scenario.get("models", {}).get(model, {})
        of_tenant = of_scenario.get("tenants", {}).get(tenant, {})
        levels = (self.written.get("default", {}), of_scenario, of_model, of_tenant)
        merged: dict[str, Any] = {}
        for level in levels:
            merged |= {key: value for key, value in level.items() if key not in _PARTS}
        return Slo(**merged)

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
