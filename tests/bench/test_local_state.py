"""Engines that were left: what makes them usable, and who may be ended."""

from __future__ import annotations

import io
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench.config.topology import load_topology
from bench.environments.local.enginehost.replicas import (
    ProcessIdentity,
    ReplicaSpec,
    identify,
    is_alive,
)
from bench.environments.local.host import (
    Engines,
    RunningReplica,
    end_engines,
    read_engines,
    state_file,
    why_unusable,
)
from bench.environments.local.kept import (
    KeptBalancer,
    balancers_file,
    end_all_balancers,
    read_balancers,
    stop_kept,
    write_balancers,
)
from bench.environments.local.operations import LocalOperations
from bench.errors import UserError
from bench.progress import PlainProgress

PLAN = ReplicaSpec("a-0", "a", core=0, argv=("--model", "x"))
SPEC = replace(PLAN, port=8100, log="a-0.log")


@pytest.fixture
def sleeper() -> Iterator[ProcessIdentity]:
    process = subprocess.Popen(["sleep", "600"])
    identity = identify(process.pid)
    assert identity is not None
    yield identity
    process.kill()
    process.wait()


@pytest.fixture
def engines(sleeper: ProcessIdentity, tmp_path: Path) -> Engines:
    return Engines("mark", tmp_path / "folder", sleeper, (RunningReplica(SPEC, sleeper),))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"host": 3}', "[1]", "[" * 100_000, "\xff"])
def test_a_state_of_another_version_is_named(tmp_path: Path, text: str) -> None:
    state = state_file(tmp_path)
    state.parent.mkdir(parents=True)
    state.write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"state.json is damaged or of another version: end what"):
        read_engines(state)
    balancers_file(tmp_path).write_text(text if text != "[]" else "[{}]", encoding="latin-1")
    if text != "{}":  # which lists none
        with pytest.raises(UserError, match=r"balancers.json is damaged or of another version"):
            read_balancers(tmp_path)


def recycled(identity: ProcessIdentity) -> ProcessIdentity:
    """An earlier process that had the same number."""
    return replace(identity, start=identity.start - 1)


def test_a_process_is_alive_under_its_own_start_time_only(sleeper: ProcessIdentity) -> None:
    assert is_alive(sleeper)
    assert not is_alive(recycled(sleeper))


def test_a_zombie_is_not_alive() -> None:
    process = subprocess.Popen(["true"])
    # Waits for the end without reaping.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert identify(process.pid) is None
    process.wait()


def test_a_process_name_with_spaces_and_parentheses_is_read(tmp_path: Path) -> None:
    odd = tmp_path / "a) b (c"
    odd.symlink_to("/bin/sleep")
    process = subprocess.Popen([str(odd), "600"])
    identity = identify(process.pid)
    assert identity is not None
    assert is_alive(identity)
    process.kill()
    process.wait()


def test_live_engines_with_the_same_settings_are_usable(engines: Engines) -> None:
    assert why_unusable(engines, [PLAN], "mark") is None


def test_engines_that_serve_more_than_is_wanted_are_usable(engines: Engines) -> None:
    more = replace(SPEC, name="b-0")
    superset = replace(engines, replicas=(RunningReplica(more, engines.host), *engines.replicas))
    assert why_unusable(superset, [PLAN], "mark") is None


def test_why_engines_are_not_usable_is_told(engines: Engines) -> None:
    dead = RunningReplica(SPEC, recycled(engines.host))
    cases = {
        "their host is gone": (replace(engines, host=recycled(engines.host)), PLAN, "mark"),
        "they are of another version": (engines, PLAN, "other"),
        "b-0 is not among them": (engines, replace(PLAN, name="b-0"), "mark"),
        "a-0 has died": (replace(engines, replicas=(dead,)), PLAN, "mark"),
        "a-0 runs with other settings": (engines, replace(PLAN, argv=("--other",)), "mark"),
    }
    told = {why: why_unusable(found, [plan], mark) for why, (found, plan, mark) in cases.items()}
    assert told == {why: why for why in cases}


def test_a_replica_pinned_to_another_core_is_not_usable(engines: Engines) -> None:
    assert why_unusable(engines, [replace(PLAN, core=1)], "mark") is not None


def test_a_process_that_got_a_recycled_number_is_left_alone(
    engines: Engines, sleeper: ProcessIdentity, tmp_path: Path
) -> None:
    old = recycled(sleeper)
    end_engines(
        replace(engines, host=old, replicas=(RunningReplica(SPEC, old),)), tmp_path / "state.json"
    )
    assert is_alive(sleeper)


def test_without_a_state_file_there_are_no_engines(tmp_path: Path) -> None:
    assert read_engines(state_file(tmp_path)) is None
    assert services(tmp_path) == []


def test_kept_engines_are_listed_with_address_and_state(
    tmp_path: Path, sleeper: ProcessIdentity
) -> None:
    write_state(tmp_path, sleeper, replica=recycled(sleeper))
    assert services(tmp_path) == [
        ("a-0", "http://127.0.0.1:8100", "core 0", False, "dead: no error in its log, so")
    ]


def test_stopping_kept_engines_tells_whether_there_were_any(
    tmp_path: Path, sleeper: ProcessIdentity
) -> None:
    progress = PlainProgress(io.StringIO())
    assert not stop_kept(tmp_path, progress)
    write_state(tmp_path, recycled(sleeper), replica=recycled(sleeper))
    assert stop_kept(tmp_path, progress)
    assert services(tmp_path) == []


def test_a_balancer_is_ended_with_the_engines_and_one_that_got_its_number_is_not(
    tmp_path: Path, sleeper: ProcessIdentity
) -> None:
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    identity = identify(process.pid)
    assert identity is not None
    kept = [balancer("managed", identity), balancer("baseline", recycled(sleeper))]
    write_state(tmp_path, recycled(sleeper), replica=recycled(sleeper))
    write_balancers(tmp_path, kept)
    assert read_balancers(tmp_path) == tuple(kept)
    said = io.StringIO()
    end_all_balancers(tmp_path, PlainProgress(said), "this run starts its own")
    assert process.wait(30.0) < 0
    assert is_alive(sleeper)
    assert read_balancers(tmp_path) == ()
    assert said.getvalue() == (
        "the deployed balancer of managed is ended: this run starts its own\n"
    )


def balancer(arm: str, process: ProcessIdentity) -> KeptBalancer:
    return KeptBalancer(arm, 8081, ("lb",), f"{arm}.log", process)


def services(cache: Path) -> list[tuple[object, ...]]:
    progress = PlainProgress(io.StringIO())
    found = LocalOperations(cache, load_topology(), progress).services(None)
    return [(one.name, one.url, one.place, one.ready, one.state[:29]) for one in found]


def write_state(cache: Path, host: ProcessIdentity, replica: ProcessIdentity) -> None:
    state = state_file(cache)
    state.parent.mkdir(parents=True, exist_ok=True)
    spec = {"name": "a-0", "core": 0, "argv": ["--model", "x"], "port": 8100, "log": "a-0.log"}
    content = {
        "fingerprint": "mark",
        "folder": str(cache / "folder"),
        "host": {"pid": host.pid, "start": host.start},
        "replicas": [{**spec, "process": {"pid": replica.pid, "start": replica.start}}],
    }
    state.write_text(json.dumps(content))
