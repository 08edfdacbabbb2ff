"""The models of the topology file that tests colocate, whatever others it has."""

from __future__ import annotations

from dataclasses import replace

from bench.config.topology import Topology, load_topology

NAMES = ("llama-3.1-8b", "qwen2.5-7b", "mistral-7b", "mixtral-8x7b")


def colocated_topology() -> Topology:
    """The topology in layout colocated, with the tiny models and those of `NAMES`."""
    found = load_topology(layout="colocated")
    models = {name: one for name, one in found.models.items() if one.hub is None or name in NAMES}
    return replace(found, models=models)
