"""Files of keys: what they say, what is wrong with them, and when they change."""

from __future__ import annotations

import logging
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.errors import UserError
from lb.http.keys import KeyFile, parse_keys, read_key, tenant_of

names = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
keys = st.from_regex(r"[!-~]{1,80}", fullmatch=True).filter(
    lambda key: not key.startswith("sha256:")
)


@given(st.dictionaries(keys, names, min_size=1), st.booleans())
def test_every_key_has_its_name_hashed_or_not(owners: dict[str, str], hashed: bool) -> None:
    def written(key: str) -> str:
        return f"sha256:{sha256(key.encode()).hexdigest()}" if hashed else key

    # A name that begins like a comment is none that is allowed.
    lines = ["# comment", "", *(f" {name}\t{written(key)} " for key, name in owners.items())]
    parsed = parse_keys("\n".join(lines), "file")
    assert parsed == {sha256(key.encode()).digest(): name.encode() for key, name in owners.items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "file has no keys, give one on each line: NAME KEY"),
        ("# alice sk-1\n", "file has no keys"),
        ("alice sk-secret\nbob\n", "file line 2 does not read 'NAME KEY'"),
        ("alice sk-secret bob", "file line 1 does not read 'NAME KEY'"),
        ("al/ice sk-secret", "file line 1: a name is up to 64 letters, digits"),
        ("alice sk-secret\n\nbob sk-secret", "file line 3: the key of bob is given twice"),
        ("alice sha256:sk-secret", "file line 1: after sha256: there must be 64 hexadecimal"),
        ("alice sk-secret\u00fc", "file line 1: a key is printable ASCII without spaces"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_without_the_key(text: str, expected: str) -> None:
    with pytest.raises(UserError) as raised:
        parse_keys(text, "file")
    message = str(raised.value)
    assert message.startswith(expected)
    assert "secret" not in message
    assert "\n" not in message


def test_a_key_is_known_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("alice sk-1\nalice sk-2\nbob sk-3\n")
    file = KeyFile(path)
    assert [file.name(key) for key in (b"sk-1", b"sk-2", b"sk-3")] == [b"alice", b"alice", b"bob"]
    assert file.name(b"sk-4") is None
    assert file.name(b"") is None


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("alice sk-1\n")
    file = KeyFile(path)
    path.write_text("bob sk-22\n")
    assert file.name(b"sk-1") == b"alice"  # not until it is looked at
    file.refresh()
    assert (file.name(b"sk-1"), file.name(b"sk-22")) == (None, b"bob")


@pytest.mark.parametrize("broken", ["alice\n", "", None])
def test_a_file_that_breaks_leaves_the_keys_with_one_line_in_the_log(
    broken: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys"
    path.write_text("alice sk-1\n")
    file = KeyFile(path)
    if broken is None:
        path.unlink()
    else:
        path.write_text(broken)
    with caplog.at_level(logging.INFO, logger="lb"):
        for _ in range(3):
            file.refresh()
        assert file.name(b"sk-1") == b"alice"
        path.write_text("bob sk-22\n")
        file.refresh()
    assert file.name(b"sk-22") == b"bob"
    warning, info = (record.message for record in caplog.records)
    assert warning.startswith(f"the API keys stay as they were: {path}")
    assert info == f"read 1 API keys from {path}"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    with pytest.raises(UserError, match=f"{path} cannot be read: No such file"):
        KeyFile(path)
    with pytest.raises(UserError, match=f"{path} cannot be read: No such file"):
        read_key(path)


@pytest.mark.parametrize("text", ["\nsk-1\n", "sk-1", "\ufeffsk-1\r\n"])
def test_a_file_of_one_key_has_one_word(text: str, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    assert read_key(path) == "sk-1"


@pytest.mark.parametrize("text", [b"", b"sk-1 sk-2", b"sk-\xc3\xbc", b"\xff", b"sk-1\nsk-2"])
def test_a_file_of_anything_else_is_refused(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(text)
    with pytest.raises(UserError) as raised:
        read_key(path)
    assert str(path) in str(raised.value)
    assert "sk-" not in str(raised.value).removeprefix(str(path))


def test_no_more_than_the_beginning_of_a_long_tenant_is_remembered() -> None:
    assert tenant_of([(b"x-tenant", b"x" * 32_000)]) == b"x" * 256
