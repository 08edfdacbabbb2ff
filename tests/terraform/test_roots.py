"""The roots and the modules with resources: parsed, not applied, since that needs a provider."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.terraform.running import (
    NODE,
    NODE_CONFIG,
    ROOTS,
    TERRAFORM,
    named,
    parsed,
    resources,
    terraform,
)

SCHEMA = json.loads((Path(__file__).parent / "data/google-8.7.0.json").read_text("utf-8"))[
    "resources"
]
META = {"for_each", "lifecycle"}
OF_THE_ROOT = {"runtime", "gpu"}
MODULES = tuple(TERRAFORM / "modules" / name for name in ("network", "firewall", "node"))
RESOURCES = [
    pytest.param(kind, body, id=f"{kind}.{name}")
    for module in MODULES
    for kind, name, body in resources(module)
]


def resource(kind: str) -> dict[str, Any]:
    (found,) = (param.values[1] for param in RESOURCES if param.values[0] == kind)
    assert isinstance(found, dict)
    return found


def unknown(body: Mapping[str, Any], names: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """Arguments and blocks of `body` that the provider does not have."""
    body = dict(body)
    for block in body.pop("dynamic", ()):
        for name, made in block.items():
            body[name] = made["content"]
    for name, value in body.items():
        if not at and name in META:
            continue
        if name not in names:
            yield f"{at}{name}"
        elif names[name] is not None:
            for one in value:
                yield from unknown(one, names[name], f"{at}{name}.")


@pytest.mark.parametrize(("kind", "body"), RESOURCES)
def test_resources_have_what_the_providers_schema_names(kind: str, body: dict[str, Any]) -> None:
    assert not list(unknown(body, SCHEMA[kind]["names"]))
    assert set(SCHEMA[kind]["required"]) <= set(body)


@pytest.mark.parametrize("root", ROOTS, ids=lambda root: root.name)
def test_a_root_hands_every_variable_to_the_module_that_checks_it(root: Path) -> None:
    blocks = parsed(root)
    config = dict(named(blocks, "module"))["config"]
    of_root = {name for name, _ in named(blocks, "variable")}
    checked = {name for name, _ in named(parsed(NODE_CONFIG), "variable")}
    assert of_root == checked - OF_THE_ROOT
    assert {name: config[name] for name in of_root} == {
        name: f"${{var.{name}}}" for name in of_root
    }
    assert (root / "variables.tf").resolve() == NODE_CONFIG / "variables.tf"


@pytest.mark.parametrize("root", ROOTS, ids=lambda root: root.name)
def test_a_root_says_how_to_reach_the_node_and_what_it_costs(root: Path) -> None:
    made = dict(named(parsed(root), "output"))
    wanted = {"instance_ip", "ssh_command", "cost", "quota_hint", "sizing"}
    assert set(made) == wanted | ({"kubeconfig_command"} if root.name == "k3s-l4" else set())
    assert all(one["description"] for one in made.values())


@pytest.mark.parametrize("root", ROOTS, ids=lambda root: root.name)
def test_modules_get_what_they_need_and_have_what_is_asked_of_them(root: Path) -> None:
    calls = dict(named(parsed(root), "module"))
    called = {name: parsed((root / call["source"]).resolve()) for name, call in calls.items()}
    for name, call in calls.items():
        variables = dict(named(called[name], "variable"))
        assert set(call) - {"source"} <= set(variables)
        assert {key for key, one in variables.items() if "default" not in one} <= set(call)
    for name, output in re.findall(r"module\.(\w+)\.(\w+)", (root / "main.tf").read_text("utf-8")):
        assert output in dict(named(called[name], "output"))


@pytest.mark.parametrize("root", ROOTS, ids=lambda root: root.name)
def test_a_root_can_be_applied_where_its_modules_make_nothing(root: Path, tmp_path: Path) -> None:
    """Terraform itself checks the calls, their types and the outputs; resources are cut out."""
    copied = Path(shutil.copytree(TERRAFORM, tmp_path / "terraform", symlinks=True))
    (copied / "modules/versions.tf").write_text("", encoding="utf-8")
    for module in MODULES:
        file = copied / "modules" / module.name / "main.tf"
        text = re.sub(r"(?ms)^resource .*?^}\n", "", file.read_text(encoding="utf-8"))
        text = re.sub(r"(?m)^  value += google_\S+$", f'  value = "{module.name}"', text)
        file.write_text(text, encoding="utf-8")
    folder = copied / root.name
    values = {name: value for name, value in NODE.items() if name not in OF_THE_ROOT}
    (folder / "terraform.tfvars.json").write_text(json.dumps(values), encoding="utf-8")
    for arguments in (["init"], ["validate"], ["apply", "-auto-approve"]):
        done = terraform(folder, *arguments, "-no-color")
        assert done.returncode == 0, done.stderr
    made = json.loads(terraform(folder, "output", "-json").stdout)
    ssh = "gcloud compute ssh llm-bench --project my-project --zone us-central1-a"
    assert made["ssh_command"]["value"] == ssh
    assert made["cost"]["value"]["per_hour"] > 0
    if root.name == "k3s-l4":
        assert made["kubeconfig_command"]["value"] == (
            f"(umask 077; {ssh} --command 'sudo cat /etc/rancher/k3s/k3s.yaml' "
            "| sed s/127.0.0.1/node/ > k3s.yaml)"
        )


def test_only_named_sources_reach_the_node_over_tcp() -> None:
    rule = resource("google_compute_firewall")
    assert rule["source_ranges"] == "${each.value.source_ranges}"
    assert rule["direction"] == "INGRESS"
    assert rule["target_tags"]
    assert [allow["protocol"] for allow in rule["allow"]] == ["tcp"]
    text = "".join(file.read_text(encoding="utf-8") for file in TERRAFORM.rglob("main.tf"))
    assert "0.0.0.0/0" not in text


def test_the_network_has_no_rules_of_others() -> None:
    assert resource("google_compute_network")["auto_create_subnetworks"] is False


def test_the_account_of_the_node_writes_logs_and_metrics_alone() -> None:
    roles = resource("google_project_iam_member")["for_each"]
    assert roles == '${toset(["roles/logging.logWriter", "roles/monitoring.metricWriter"])}'
    (account,) = resource("google_compute_instance")["service_account"]
    assert account["email"] == "${google_service_account.this.email}"
    assert all(scope.endswith(".write") for scope in account["scopes"])


def test_the_node_is_shielded_and_reached_by_os_login() -> None:
    node = resource("google_compute_instance")
    (shield,) = node["shielded_instance_config"]
    assert shield == {
        "enable_secure_boot": True,
        "enable_vtpm": True,
        "enable_integrity_monitoring": True,
    }
    assert node["metadata"] == {
        "enable-oslogin": "TRUE",
        "block-project-ssh-keys": "TRUE",
        "serial-port-enable": "FALSE",
        "startup-script": "${var.node.startup_script}",
    }


def test_the_node_ends_by_itself_and_takes_its_boot_disk_along() -> None:
    node = resource("google_compute_instance")
    (scheduling,) = node["scheduling"]
    assert scheduling["instance_termination_action"] == "DELETE"
    assert scheduling["max_run_duration"] == [{"seconds": "${var.node.scheduling.max_run_seconds}"}]
    assert scheduling["automatic_restart"] is False
    assert node["boot_disk"][0]["auto_delete"] is True
    assert node["deletion_protection"] is False


def test_all_that_can_has_labels() -> None:
    labelled = [kind for kind in SCHEMA if "labels" in SCHEMA[kind]["names"]]
    for kind in labelled:
        assert resource(kind)["labels"] == "${var.node.labels}", kind
