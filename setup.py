"""The packages of the wheel; pyproject.toml has the rest."""

from setuptools import find_namespace_packages, setup

SCENARIOS = "bench.scenarios"
FOUND = find_namespace_packages(
    include=["bench*", "lb*", "reports*"], exclude=["reports.node_modules*"]
)
# The scenarios are tests of a checkout. `llm-ab-test` runs them without one.
setup(packages=[*FOUND, SCENARIOS], package_dir={SCENARIOS: "tests/scenarios"})
