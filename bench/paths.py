"""Where the suite's own files are, and where it keeps what it makes."""

from __future__ import annotations

import sys
from pathlib import Path

from lb import version

# The checkout, or the folder to which pip has installed the packages.
PACKAGES = version.FOLDER
IN_CHECKOUT = version.installed() is None
# Results, logs, engines and models are kept in the checkout; without one, in the current folder.
ROOT = PACKAGES if IN_CHECKOUT else Path.cwd()
# Starts modules of the suite (-m) in folder ROOT. -P: files there do not hide installed packages.
PYTHON = (sys.executable,) if IN_CHECKOUT else (sys.executable, "-P")
# The command that measures.
MEASURE = "pytest" if IN_CHECKOUT else "llm-ab-test"


def suite_version() -> str:
    """The version of the suite, which is the tag of its images."""
    return version.version()
