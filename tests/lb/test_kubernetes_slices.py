"""Which replicas follow from the EndpointSlices of a service."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.discovery.kubernetes import Service
from lb.discovery.kubernetes.slices import EVENTS, EndpointSliceList, Failure, Slices
from lb.errors import UserError
from lb.http.endpoint import Target
from tests.lb.apiserver import endpoint_slice, pod

NAMES = ("engines-a", "engines-b", "engines-c")
NETWORKS = {"IPv4": "10.0.0.", "IPv6": "fd00::"}


def listed(*slices: dict[str, Any], port: str | tuple[int, ...] | None = None) -> Slices:
    made = Slices(Service("managed", "engines", port))
    made.replace(
        EndpointSliceList.model_validate(
            {
                "kind": "EndpointSliceList",
                "metadata": {"resourceVersion": "7"},
                "items": [_versioned(each) for each in slices] or None,
            }
        )
    )
    return made


def apply(slices: Slices, kind: str, thing: dict[str, Any]) -> None:
    event = EVENTS.validate_python({"type": kind, "object": _versioned(thing)})
    assert not isinstance(event, Failure)
    slices.apply(event)


def _versioned(thing: dict[str, Any]) -> dict[str, Any]:
    return {**thing, "metadata": {**thing["metadata"], "resourceVersion": "7"}}


def replicas(*slices: dict[str, Any], port: str | tuple[int, ...] | None = None) -> dict[str, str]:
    """URLs by name."""
    targets = listed(*slices, port=port).targets()
    return {target.endpoint.name: target.endpoint.url for target in targets}


@st.composite
def _slices(draw: st.DrawFn) -> dict[str, Any]:
    family = draw(st.sampled_from(sorted(NETWORKS)))
    flag = st.sampled_from([None, True, False])
    endpoints = [
        pod(f"pod-{number}", NETWORKS[family] + number, ready=ready, terminating=terminating)
        for number, ready, terminating in draw(
            st.lists(st.tuples(st.sampled_from("123"), flag, flag), max_size=4)
        )
    ]
    return endpoint_slice(draw(st.sampled_from(NAMES)), *endpoints, family=family)


@given(st.lists(_slices(), max_size=2), st.lists(st.one_of(_slices(), st.sampled_from(NAMES))))
def test_whatever_happened_the_final_slices_alone_decide(
    first: list[dict[str, Any]], then: list[dict[str, Any] | str]
) -> None:
    followed = listed(*first)
    final = {each["metadata"]["name"]: each for each in first}
    for step in then:
        if isinstance(step, str):
            if step in final:
                apply(followed, "DELETED", final.pop(step))
        else:
            name = step["metadata"]["name"]
            apply(followed, "MODIFIED" if name in final else "ADDED", step)
            final[name] = step
    assert followed.targets() == listed(*reversed(final.values())).targets()


@given(st.lists(_slices(), max_size=3, unique_by=lambda each: str(each["metadata"]["name"])))
def test_a_pod_is_a_replica_where_it_is_ready_if_it_is_terminating_nowhere(
    slices: list[dict[str, Any]],
) -> None:
    said: dict[str, list[tuple[str, bool, bool]]] = {}
    for each in slices:
        for entry in each["endpoints"] or ():
            conditions = entry["conditions"]
            said.setdefault(entry["targetRef"]["name"], []).append(
                (
                    entry["addresses"][0],
                    conditions.get("ready", True),
                    conditions.get("terminating", False),
                )
            )
    expected = {}
    for name, entries in said.items():
        address = min(address for address, _, _ in entries)  # IPv4 before IPv6, that is
        ready = any(ready for at, ready, _ in entries if at == address)
        if ready and not any(terminating for _, _, terminating in entries):
            expected[name] = address
    found = [target.endpoint for target in listed(*slices).targets()]
    assert {endpoint.name: endpoint.host for endpoint in found} == expected
    assert len(found) == len(expected)


def test_all_slices_of_a_service_count_each_with_its_own_port() -> None:
    assert replicas(
        endpoint_slice("a", pod("one", "10.0.0.1")),
        endpoint_slice("b", pod("two", "10.0.0.2"), http=8001),
        endpoint_slice("c", pod("three", "fd00::3"), family="IPv6"),
    ) == {
        "one": "http://10.0.0.1:8000",
        "two": "http://10.0.0.2:8001",
        "three": "http://[fd00::3]:8000",
    }


@pytest.mark.parametrize(
    ("ready", "terminating", "used"),
    [
        (True, False, True),
        (None, None, True),
        (False, False, False),
        (False, True, False),
        (True, True, False),  # of a service that publishes what is not ready
    ],
)
def test_an_endpoint_is_used_while_it_is_ready_and_not_terminating(
    ready: bool | None, terminating: bool | None, used: bool
) -> None:
    entry = pod("one", "10.0.0.1", ready=ready, terminating=terminating)
    assert bool(replicas(endpoint_slice("a", entry))) is used


def test_conditions_of_which_nothing_is_known_are_good_ones() -> None:
    assert replicas(endpoint_slice("a", {"addresses": ["10.0.0.1"]})) == {
        "10.0.0.1:8000": "http://10.0.0.1:8000"
    }


def test_an_endpoint_that_moves_between_slices_is_there_once_and_leaves_once() -> None:
    old, new = (endpoint_slice(name, pod("one", "10.0.0.1")) for name in "ab")
    assert replicas(old, new) == {"one": "http://10.0.0.1:8000"}
    leaving = endpoint_slice("b", pod("one", "10.0.0.1", ready=False, terminating=True))
    assert replicas(old, leaving) == {}


def test_an_address_that_has_passed_to_another_pod_is_the_other_pods() -> None:
    old = endpoint_slice("a", pod("old", "10.0.0.1", ready=False, terminating=True))
    new = endpoint_slice("b", pod("new", "10.0.0.1"))
    assert replicas(old, new) == {"new": "http://10.0.0.1:8000"}


@pytest.mark.parametrize("ready", [True, False])
def test_a_pod_with_addresses_of_both_families_is_one_replica(ready: bool) -> None:
    v6 = endpoint_slice("a", pod("one", "fd00::1"), family="IPv6")
    v4 = endpoint_slice("b", pod("one", "10.0.0.1", ready=ready))
    assert replicas(v6, v4) == ({"one": "http://10.0.0.1:8000"} if ready else {})


def test_addresses_are_those_of_hosts_written_in_any_way() -> None:
    slices = (
        endpoint_slice("a", pod("one", "fd00:0:0::1"), family="IPv6"),
        endpoint_slice("b", pod("one", "fd00::1"), pod("two", "nonsense"), family="IPv6"),
        endpoint_slice("c", pod("three", "engine.example"), family="FQDN"),
    )
    assert replicas(*slices) == {"one": "http://[fd00::1]:8000"}


def test_only_a_pods_name_stands_for_a_replica() -> None:
    node = {**pod("node-1", "10.0.0.1"), "targetRef": {"kind": "Node", "name": "node-1"}}
    evil = pod("x\r\nset-cookie: 1", "10.0.0.2")
    assert set(replicas(endpoint_slice("a", node, evil))) == {"10.0.0.1:8000", "10.0.0.2:8000"}


@pytest.mark.parametrize(
    ("port", "ports", "expected"),
    [
        (None, {"": 9}, 9),
        (None, {"grpc": 9}, 9),
        (None, {"metrics": 1, "http": 9}, 9),
        ("api", {"http": 1, "api": 9}, 9),
        ((9,), {"http": 1}, 9),
    ],
)
def test_the_port_is_the_only_one_or_http_or_the_one_that_is_named(
    port: str | tuple[int, ...] | None, ports: dict[str, int], expected: int
) -> None:
    entry = pod("one", "10.0.0.1")
    found = replicas(endpoint_slice("a", entry, family="IPv4", **ports), port=port)
    assert found == {"one": f"http://10.0.0.1:{expected}"}


def test_a_pod_is_a_replica_at_each_of_several_ports() -> None:
    slices = (
        endpoint_slice("a", pod("one", "10.0.0.1"), pod("two", "10.0.0.2")),
        endpoint_slice("b", pod("one", "fd00::1"), pod("new", "fd00::9"), family="IPv6"),
        endpoint_slice("c", pod("two", "10.0.0.2", terminating=True)),
    )
    assert replicas(*slices, port=(8000, 8001)) == {
        "one:8000": "http://10.0.0.1:8000",
        "one:8001": "http://10.0.0.1:8001",
        "new:8000": "http://[fd00::9]:8000",
        "new:8001": "http://[fd00::9]:8001",
    }


def test_a_port_that_no_slice_has_is_named_with_those_that_there_are() -> None:
    slices = endpoint_slice("a", pod("one", "10.0.0.1"), grpc=1, metrics=2)
    with pytest.raises(UserError, match="managed/engines has no port named http, only grpc, metr"):
        listed(slices).targets()
    assert replicas(endpoint_slice("a", grpc=1, metrics=2)) == {}


def test_a_slice_without_the_port_is_left_out_while_others_have_it() -> None:
    old = endpoint_slice("a", pod("one", "10.0.0.1"), metrics=1, grpc=2)
    new = endpoint_slice("b", pod("two", "10.0.0.2"), metrics=1, http=2)
    assert replicas(old, new) == {"two": "http://10.0.0.2:2"}


def test_udp_is_no_port_of_http() -> None:
    slices = endpoint_slice("a", pod("one", "10.0.0.1"), http=1)
    slices["ports"].append({"name": "gossip", "port": 2, "protocol": "UDP"})
    assert replicas(slices) == {"one": "http://10.0.0.1:1"}


def test_a_bookmark_moves_the_version_and_nothing_else() -> None:
    slices = listed(endpoint_slice("a", pod("one", "10.0.0.1")))
    before: tuple[Target, ...] = slices.targets()
    event = EVENTS.validate_json(
        b'{"type":"BOOKMARK","object":{"kind":"EndpointSlice","metadata":{"resourceVersion":"99",'
        b'"creationTimestamp":null},"addressType":"","endpoints":null,"ports":null}}'
    )
    assert not isinstance(event, Failure)
    slices.apply(event)
    assert (slices.targets(), slices.version) == (before, "99")
