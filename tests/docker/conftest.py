"""What tests on a real Docker daemon share."""

from __future__ import annotations

import os

import pytest

from bench.environments.docker.daemon import Daemon
from bench.environments.docker.project import find_compose
from bench.errors import UserError
from bench.paths import suite_version
from bench.processes.ports import is_free, port_holder

HOW = "docs/how-to/docker.md says how to get one"


@pytest.fixture
def daemon() -> Daemon:
    """This machine's daemon, which has the suite's images and none of its containers."""
    try:
        found = Daemon.chosen(os.environ)
        find_compose()
    except UserError as error:
        pytest.skip(f"{error}; {HOW}")
    for image in ("llm-bench-lb", "llm-bench-engine-cpu"):
        if not found.has_image(f"{image}:{suite_version()}"):
            pytest.skip(f"Docker has no image {image}:{suite_version()}; {HOW}")
    if up := found.projects():
        pytest.skip(f"{', '.join(up)} is up; end it: python -m bench teardown --env docker")
    if taken := [port for port in (8080, 8081, *range(8001, 8005)) if not is_free(port)]:
        pytest.skip(f"port {taken[0]} is held by {port_holder(taken[0])}; end that")
    return found
