"""Arms with engine flags of their own on this machine: which engines serve each arm.

The engines are said to run already: what is tested is which of them an arm has.
"""

from __future__ import annotations

import io
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from bench.config.topology import Arm, EngineEntry, EngineFlags, load_topology
from bench.environments.local import LocalEnvironment
from bench.environments.local import environment as module
from bench.environments.local.starting import StartedEngines
from bench.errors import UserError
from bench.progress import PlainProgress
from bench.records import Replica

TOPOLOGY = load_topology()
BASELINE, MANAGED = map(TOPOLOGY.arm, ("baseline", "managed"))
WIDE = replace(BASELINE, name="wide", port=9001, engine=EngineFlags(max_num_seqs=8))
# The same flags as all, said once more.
SAME = replace(WIDE, name="same", engine=EngineFlags(max_num_seqs=TOPOLOGY.engine.max_num_seqs))
USUAL = (Replica("a", "a-0", "http://127.0.0.1:1"), Replica("a", "a-1", "http://127.0.0.1:2"))
OTHER = (Replica("a", "a-0-max_num_seqs-8", "http://127.0.0.1:3"),)


def started(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arms: tuple[Arm, ...]
) -> LocalEnvironment:
    """An environment of these arms that has started."""
    groups: dict[EngineEntry, tuple[Replica, ...]] = {TOPOLOGY.engine: USUAL}
    if WIDE in arms:
        groups[TOPOLOGY.for_arm(WIDE).engine] = OTHER
    found = StartedEngines(groups, {}, {}, found=True)
    monkeypatch.setattr(module, "start_engines", lambda *_: found)
    monkeypatch.setattr(module, "require_free_port", lambda _: None)  # no balancer is started
    one = LocalEnvironment(folder, TOPOLOGY, PlainProgress(io.StringIO()), arms=arms)
    assert one.start(()) == tuple(replica for group in groups.values() for replica in group)
    return one


def test_an_arm_has_the_engines_with_its_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = started(tmp_path, monkeypatch, (BASELINE, WIDE, MANAGED, SAME))
    assert one.replicas(BASELINE) == one.replicas(MANAGED) == one.replicas(SAME) == USUAL
    assert one.replicas(WIDE) == OTHER
    names = [one.engines(arm) for arm in (BASELINE, MANAGED, SAME, WIDE)]
    assert names == ["group 0", "group 0", "group 0", "group 1"]
    ((target,),) = one.other_targets({"control": BASELINE, "treatment": WIDE})
    assert target.url == OTHER[0].url
    one.stop()


def test_engines_have_no_name_where_all_arms_have_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = started(tmp_path, monkeypatch, (BASELINE, MANAGED, SAME))
    assert [one.engines(arm) for arm in (BASELINE, MANAGED, SAME)] == ["", "", ""]
    one.stop()


def test_a_port_that_is_held_is_told_before_engines_are_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_: object) -> StartedEngines:
        pytest.fail("engines are started")

    monkeypatch.setattr(module, "start_engines", start)
    with socket.create_server(("127.0.0.1", 0)) as holder:
        arm = replace(BASELINE, port=holder.getsockname()[1])
        one = LocalEnvironment(tmp_path, TOPOLOGY, PlainProgress(io.StringIO()), arms=(arm,))
        with pytest.raises(UserError, match=rf"port {arm.port} of arm baseline is held by process"):
            one.start(())
        one.stop()
