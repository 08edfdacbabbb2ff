"""Choosing a cluster, and what it answers instead of doing what was asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.environments.kubernetes.access import Access, connect, production_word
from bench.environments.kubernetes.deploying import apply_one, build, in_apply_order, of_models
from bench.environments.kubernetes.objects import CREATED_BY, Resource
from bench.errors import UserError
from tests.k8s.scripted_api import kubeconfig, scripted_api

PODS = "/api/v1/namespaces/baseline/pods"
FORBIDDEN = 'pods is forbidden: User "me" cannot list resource "pods" in the namespace "baseline"'


def test_what_is_not_given_is_what_kubectl_would_take(tmp_path: Path) -> None:
    servers = {"lab": "http://lab:1", "other": "http://other:1"}
    path = kubeconfig(tmp_path, servers, "lab")
    environ = {"KUBECONFIG": str(path)}
    assert connect(Access.chosen(None, None, environ)).server == "http://lab:1"
    assert connect(Access.chosen(None, "other", environ)).server == "http://other:1"
    assert connect(Access.chosen(path, None, {"KUBECONFIG": "/missing"})).server == "http://lab:1"
    assert Access.chosen(None, None, {}).kubeconfig == "~/.kube/config"


def test_a_context_that_is_not_there_and_a_file_that_is_not_are_one_line(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, {"lab": "http://lab:1"}, "lab")
    with pytest.raises(UserError, match=r"no context 'lap' in .*; known: lab"):
        connect(Access(str(path), "lap"))
    with pytest.raises(UserError, match=r"cannot read the kubeconfig .*missing"):
        connect(Access(str(tmp_path / "missing")))


@pytest.mark.parametrize(
    ("context", "server", "word"),
    [
        ("gke_prod_eu", "https://1.2.3.4", "prod"),
        ("lab", "https://k8s.production.example:6443", "production"),
        ("LIVE", "https://1.2.3.4", "live"),
        ("prd-2", "https://1.2.3.4", "prd"),
        ("products", "https://delivery.example/prod", None),
        ("reproduction", "https://olive.example", None),
    ],
)
def test_words_that_say_production(context: str, server: str, word: str | None) -> None:
    assert production_word(context, server) == word


def test_production_is_refused_unless_it_is_named(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, {"prod-eu": "http://127.0.0.1:1"}, "prod-eu")
    with pytest.raises(UserError, match=r"looks like production .*--context prod-eu"):
        connect(Access(str(path)))
    assert connect(Access(str(path), "prod-eu")).context == "prod-eu"


@pytest.mark.parametrize(
    ("status", "message", "begins"),
    [
        (401, "Unauthorized", "cannot list pods in namespace baseline: the cluster does not know"),
        (403, FORBIDDEN, f"not allowed to list pods in namespace baseline: {FORBIDDEN}"),
        (500, "etcd\nis full", "cannot list pods in namespace baseline: etcd is full (500)"),
    ],
)
def test_a_refusal_is_one_line_that_says_what_was_asked(
    tmp_path: Path, status: int, message: str, begins: str
) -> None:
    with scripted_api({("GET", PODS): (status, {"message": message})}) as script:
        api = connect(Access(str(kubeconfig(tmp_path, {"lab": script.server}, "lab"))))
        with pytest.raises(UserError) as raised:
            api.find("Pod", "baseline")
    assert str(raised.value).startswith(begins)


def test_an_answer_of_something_else_is_one_line(tmp_path: Path) -> None:
    with scripted_api({("GET", PODS): (200, {"page": "log in"})}) as script:
        api = connect(Access(str(kubeconfig(tmp_path, {"lab": script.server}, "lab"))))
        with pytest.raises(UserError, match="in place of what was asked for; is there a proxy"):
            api.find("Pod", "baseline")


def test_a_server_that_is_away_is_one_line(tmp_path: Path) -> None:
    with scripted_api({}) as script:
        path = kubeconfig(tmp_path, {"lab": script.server}, "lab")
    with pytest.raises(UserError, match=r"does not answer: .*[Cc]onnection refused") as raised:
        connect(Access(str(path))).version()
    assert "\n" not in str(raised.value)


def test_a_namespace_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    space = Resource(kind="Namespace", apiVersion="v1", metadata={"name": "baseline"})
    path = "/api/v1/namespaces/baseline"
    with scripted_api({("GET", path): (200, space)}) as script:
        api = connect(Access(str(kubeconfig(tmp_path, {"lab": script.server}, "lab"))))
        apply_one(api, space)
        assert script.asked == [("GET", path)]
        script.answers = {("PATCH", path): (201, space)}
        apply_one(api, space)
        assert script.asked[1:] == [("GET", path), ("PATCH", path)]
    assert CREATED_BY not in space["metadata"]


def test_what_others_refer_to_is_applied_first() -> None:
    kinds = ["Deployment", "RoleBinding", "Namespace", "ServiceAccount", "Role", "Unheard"]
    assert [one["kind"] for one in in_apply_order([Resource(kind=kind) for kind in kinds])] == [
        "Namespace",
        "ServiceAccount",
        "Role",
        "RoleBinding",
        "Deployment",
        "Unheard",
    ]


def test_only_the_models_that_are_asked_for_are_applied() -> None:
    def labelled(model: str) -> Resource:
        return Resource(metadata={"labels": {"llm-bench/model": model}})

    shared = Resource(metadata={})
    assert of_models([labelled("a"), shared, labelled("b")], {"b"}) == [shared, labelled("b")]


def test_without_kubectl_it_says_where_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="kubectl is not installed"):
        build(tmp_path)
