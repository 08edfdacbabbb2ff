"""`python -m bench.environments.cpu_engine FOLDER`: make the tiny models, one folder for each.

The engine's image is built with it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bench.environments.cpu_engine.families import FAMILIES
from bench.environments.cpu_engine.models import write_tiny_model

if __name__ == "__main__":
    for architecture in FAMILIES:
        write_tiny_model(architecture, Path(sys.argv[1]) / architecture)
