"""What is asked of an endpoint before it is measured. No server here is an engine."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from bench.config.endpoints import base_url
from bench.environments.external.checks import Examined, examine, requests_for_all
from bench.environments.external.comparing import answers_note, round_trip_note
from bench.errors import UserError
from bench.load.client.api import Api
from bench.processes.ports import free_ports
from bench.processes.tls import Tls
from tests.bench.endpoint import JSON, MODEL, Behaviour, endpoint

HTML = "<!doctype html><title>Welcome</title>"
COMPLETIONS = "/v1/chat/completions"


def examined(behaviour: Behaviour, api: Api | None = None, model: str = MODEL) -> Examined:
    with endpoint(behaviour) as url:
        return examine("a", url, api or Api(), model)


def test_a_server_that_takes_everything_is_asked_for_exact_answers() -> None:
    behaviour = Behaviour()
    found = examined(behaviour)
    assert (found.text, found.exact_answers, found.reduction, found.notes) == (
        "one two",
        True,
        {},
        (),
    )
    assert found.engine == "engine of us, version not known"
    sent = behaviour.seen[-1][2]
    assert (sent["min_tokens"], sent["ignore_eos"]) == (16, True)


@pytest.mark.parametrize(
    ("behaviour", "exact", "note"),
    [
        (Behaviour(unknown=("min_tokens",)), False, "takes no min_tokens and ignore_eos"),
        (Behaviour(unknown=("stream_options",)), False, "ignore_eos and stream_options"),
        (Behaviour(counts=False), True, "counts no tokens"),
        (Behaviour(tokens=3), False, "ends answers before the tokens asked for"),
        (Behaviour(closes=True), True, "closes the connection after each answer"),
    ],
    ids=["no min_tokens", "no stream_options", "no usage", "short", "closes"],
)
def test_what_an_endpoint_cannot_do_is_noted(behaviour: Behaviour, exact: bool, note: str) -> None:
    found = examined(behaviour)
    assert found.exact_answers is exact
    assert any(note in one for one in found.notes)


def test_streams_with_carriage_returns_are_read() -> None:
    assert examined(Behaviour(newline="\r\n")).notes == ()


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (Behaviour(key="k"), "refuses access to /v1/models (401); give its key"),
        (Behaviour(fixed={"/v1/models": (403, JSON, "{}")}), "(403); give its key"),
        (Behaviour(fixed={"/v1/models": (429, JSON, "{}")}), "limits the rate of requests"),
        (Behaviour(fixed={"/v1/models": (200, "text/html", HTML)}), "text/html ('<!doctype"),
        (Behaviour(fixed={"/v1/models": (200, JSON, '{"data": "x"}')}), "place of a list"),
        (Behaviour(fixed={"/v1/models": (500, JSON, "{}")}), "/v1/models answers 500"),
        (Behaviour(fixed={COMPLETIONS: (404, JSON, "{}")}), "has no /v1/chat/completions (404"),
        (Behaviour(fixed={COMPLETIONS: (200, "text/html", HTML)}), "in place of a completion"),
        (Behaviour(unknown=("stream",)), "does not stream an answer: status"),
    ],
    ids=["401", "403", "429", "HTML", "no list", "500", "no chat", "HTML answer", "no stream"],
)
def test_what_cannot_be_measured_is_said_in_one_line(behaviour: Behaviour, said: str) -> None:
    with pytest.raises(UserError, match="http://127") as caught:
        examined(behaviour)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_that_is_refused_is_not_asked_for_and_not_shown() -> None:
    api = Api(headers={"Authorization": "Bearer wrong-one"})
    with (
        endpoint(Behaviour(key="right")) as url,
        pytest.raises(UserError, match=r"refuses the key for /v1/models \(401\)") as caught,
    ):
        examine("a", url, api, MODEL)
    assert "wrong-one" not in str(caught.value)


def test_a_model_that_is_not_served_is_named_with_those_that_are() -> None:
    with pytest.raises(UserError, match=f"does not serve model 'other'; it serves {MODEL}"):
        examined(Behaviour(), model="other")


def test_a_server_without_a_list_of_models_can_be_measured() -> None:
    found = examined(Behaviour(fixed={"/v1/models": (404, JSON, "{}")}))
    assert (found.text, found.engine) == ("one two", "engine not known")


def test_a_port_that_nobody_listens_on_is_said() -> None:
    port = next(free_ports(20_000, ()))
    with pytest.raises(UserError, match=r"does not answer: .*; check the address"):
        examine("a", f"http://127.0.0.1:{port}", Api(), MODEL)


def test_completions_with_headers_fields_and_a_base_path() -> None:
    behaviour = Behaviour(prefix="/openai", key="secret")
    api = Api(
        kind="completions",
        headers={"Authorization": "Bearer secret", "x-team": "search"},
        fields={"min_p": 0.1, "ignore_eos": None},
    )
    with endpoint(behaviour) as url:
        found = examine("a", base_url(f"{url}/v1"), api, MODEL)
    assert found.exact_answers
    path, headers, body = behaviour.seen[-1]
    assert path == "/openai/v1/completions"
    assert headers["x-team"] == "search"
    assert (body["min_p"], "ignore_eos" in body, "messages" in body) == (0.1, False, False)
    assert "secret" not in repr(found)


def test_requests_are_such_that_every_endpoint_takes_them() -> None:
    plain, reduced = examined(Behaviour()), examined(Behaviour(unknown=("min_tokens",)))
    api = requests_for_all(Api(fields={"min_p": 0.1}), [plain, reduced])
    assert api.fields == {"min_tokens": None, "ignore_eos": None, "min_p": 0.1}
    assert not api.exact_answers
    assert requests_for_all(Api(), [plain, plain]) == Api()


def test_different_answers_to_one_prompt_are_noted() -> None:
    one = examined(Behaviour())
    other = replace(one, name="b", text="three")
    assert answers_note(MODEL, [one, one]) is None
    assert "a 'one two', b 'three'" in (answers_note(MODEL, [one, other]) or "")


def test_the_round_trips_of_both_are_compared() -> None:
    with endpoint(Behaviour()) as url:
        found = examine("a", url, Api(), MODEL)
        note = round_trip_note([found, replace(found, name="b")])
    assert note is not None
    assert note.startswith("a ")
    assert ", b " in note
    assert "difference" in note
    assert round_trip_note([found]) is None


def served_tls(authority: trustme.CA) -> ssl.SSLContext:
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(made)
    return made


def test_an_own_authority_is_trusted_by_its_file(tmp_path: Path) -> None:
    authority, ca = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    with endpoint(Behaviour(), served_tls(authority)) as url:
        assert examine("a", url, Api(tls=Tls(ca=ca)), MODEL).text == "one two"
        assert examine("a", url, Api(tls=Tls(verify=False)), MODEL).text == "one two"
        with pytest.raises(UserError, match=r"is not trusted: .*give its CA with --ca"):
            examine("a", url, Api(), MODEL)


def test_a_client_certificate_is_shown(tmp_path: Path) -> None:
    authority = trustme.CA()
    files = {name: tmp_path / f"{name}.pem" for name in ("ca", "certificate", "key")}
    own = authority.issue_cert("client.example")
    authority.cert_pem.write_to_path(str(files["ca"]))
    own.cert_chain_pems[0].write_to_path(str(files["certificate"]))
    own.private_key_pem.write_to_path(str(files["key"]))
    wants = served_tls(authority)
    wants.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(wants)
    with endpoint(Behaviour(), wants) as url:
        api = Api(tls=Tls(files["ca"], files["certificate"], files["key"]))
        assert examine("a", url, api, MODEL).text == "one two"
        with pytest.raises(UserError, match=r"127\.0\.0\.1"):
            examine("a", url, Api(tls=Tls(ca=files["ca"])), MODEL)


def test_plain_http_at_a_tls_address_is_said() -> None:
    with endpoint(Behaviour()) as url, pytest.raises(UserError, match="does not speak TLS here"):
        examine("a", url.replace("http:", "https:"), Api(), MODEL)


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "all_proxy"])
def test_a_proxy_is_refused_and_not_measured(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("no_proxy", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "http://127.0.0.1:1")
    with pytest.raises(UserError, match=r"through a proxy .*no_proxy"):
        examine("a", "https://a.invalid", Api(), MODEL)


def test_a_loopback_address_needs_no_exception_from_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert examined(Behaviour()).text == "one two"


@pytest.mark.parametrize(
    ("ca", "said"),
    [("none.pem", "No such file"), ("empty.pem", "give a PEM file")],
)
def test_files_for_tls_that_cannot_be_used(tmp_path: Path, ca: str, said: str) -> None:
    (tmp_path / "empty.pem").touch()
    with pytest.raises(UserError, match="for TLS") as caught:
        Tls(tmp_path / ca).context()
    assert said in str(caught.value)
