"""Objects as YAML: the same text for the same objects."""

from __future__ import annotations

import json
from collections.abc import Iterable

import yaml

from bench.environments.kubernetes.objects import Object

WIDTH = 100


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such."""


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent)


def documents(objects: Iterable[Object]) -> str:
    """Several objects, each a document."""
    # What is in two places is written twice: YAML would have the second refer to the first.
    copies = (json.loads(json.dumps(one)) for one in objects)
    return "---\n".join(
        yaml.dump(one, Dumper=_Dumper, sort_keys=False, width=WIDTH) for one in copies
    )


def operations(patch: Iterable[Object]) -> str:
    """The operations of a JSON patch, one a line: kustomize wants them as a text."""
    return "".join(
        "- " + yaml.safe_dump(one, sort_keys=False, default_flow_style=True, width=999)
        for one in patch
    )
