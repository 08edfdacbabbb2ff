"""With a cluster that has the suite's images: a comparison as a user asks for it.

Uses the namespaces `baseline` and that of the load, so that no measurement may be under way.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.analysis.blocks import group_blocks
from bench.environments.kubernetes.access import Access, connect
from bench.environments.kubernetes.objects import LOAD_NAMESPACE
from bench.store import TrialStore

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
# A verdict either way, and no usage error: how good a cluster is for measuring is not asked.
ANSWERED = {0, 1}


def test_two_arms_are_deployed_compared_and_taken_down(real_cluster: Access) -> None:
    chosen = ["--kubeconfig", real_cluster.kubeconfig]
    if real_cluster.context is not None:
        chosen += ["--context", real_cluster.context]
    asked = ["-m", "managed", "-k", "latency", "--models", "tiny-llama"]
    where = ["--env", "k8s", "--hardware", "cpu", "--arms", "baseline,simple"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *asked, *where, *chosen],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in ANSWERED, done.stdout
    assert "simple against baseline" in done.stdout
    trials = TrialStore(ROOT / "results").load_run()
    assert {trial.environment for trial in trials} == {"k8s"}
    assert all(block.complete for block in group_blocks(trials)[:4])
    assert all(sample.ok for trial in trials for sample in trial.samples)
    by_balancer = [one for trial in trials if trial.arm == "simple" for one in trial.samples]
    assert {one.replica for one in by_balancer} == {one.name for one in trials[0].replicas}
    for namespace in ("baseline", LOAD_NAMESPACE):
        assert connect(real_cluster).get("Namespace", None, namespace) is None
