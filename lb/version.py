"""The version of these packages: of their checkout, or as pip has installed them."""

from __future__ import annotations

import tomllib
from importlib.metadata import Distribution
from pathlib import Path

FOLDER = Path(__file__).parents[1]


def installed() -> Path | None:
    """The folder with pip's record of these packages, which lies beside them; None in a checkout.

    A checkout may have been installed as it is (`pip install --editable`): pip's record of that
    lies elsewhere.
    """
    return next(FOLDER.glob("llm_serving_ab_bench-*.dist-info"), None)


def version() -> str:
    """The version that pyproject.toml has, or had when the packages were built."""
    if (record := installed()) is not None:
        return Distribution.at(record).version
    pyproject = (FOLDER / "pyproject.toml").read_text(encoding="utf-8")
    return str(tomllib.loads(pyproject)["project"]["version"])
