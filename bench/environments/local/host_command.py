"""How to run the package `enginehost` with the engine's own Python."""

from __future__ import annotations

from pathlib import Path

# Appended last, so that nothing beside the package can stand in for an installed module.
_BOOTSTRAP = "import sys; sys.path.append(sys.argv[1]); from enginehost import {}"


def host_command(python: Path, spec: Path) -> list[str]:
    """Run a host as `spec` says."""
    return _command(python, "main; main.main(sys.argv[2])", str(spec))


def check_command(python: Path) -> list[str]:
    """Import everything that a host imports; fails if the installation does not work.

    Writes the byte code of what it imports, so that later starts need not compile it.
    """
    return _command(python, "serving; serving.preload()")


def _command(python: Path, code: str, *arguments: str) -> list[str]:
    # -I ignores PYTHON* variables: PYTHONDONTWRITEBYTECODE would make every start compile.
    folder = str(Path(__file__).parent)
    return [str(python), "-I", "-c", _BOOTSTRAP.format(code), folder, *arguments]
