"""The key file."""

import json
import re
import stat
import threading
from pathlib import Path

import pytest

from clary.errors import ConfigurationError, NotFound
from clary.signing.keys import KeyFile


def test_no_file_means_no_keys(tmp_path: Path) -> None:
    assert KeyFile(tmp_path / "keys.json").load() == {}


def test_a_created_key_looks_like_one_of_aws_and_is_there_again(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "sub" / "keys.json")
    key = file.create("ada")
    assert re.fullmatch("AKIA[A-Z2-7]{16}", key.id)
    assert re.fullmatch("[A-Za-z0-9+/]{40}", key.secret)
    assert key.principal == "ada"
    assert key.created_at.tzinfo is not None
    assert file.load() == {key.id: key}


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    KeyFile(path).create()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["keys.json", "keys.json.lock"]


def test_a_secret_is_not_shown_by_accident(tmp_path: Path) -> None:
    key = KeyFile(tmp_path / "keys.json").create()
    assert key.secret not in repr(key)


def test_deleting_leaves_the_other_keys(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys.json")
    first, second = file.create(), file.create()
    file.delete(first.id)
    assert file.load() == {second.id: second}
    with pytest.raises(NotFound, match=first.id):
        file.delete(first.id)


def test_commands_at_the_same_time_lose_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    threads = [threading.Thread(target=lambda: KeyFile(path).create()) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(KeyFile(path).load()) == 12


CORRUPT = [
    b"",
    b"{",
    b"[]",
    b"\xff\xfe",
    b'{"version": 2, "keys": []}',
    b'{"version": 1}',
    b'{"version": 1, "keys": {}}',
    b'{"version": 1, "keys": [1]}',
    b'{"version": 1, "keys": [{"id": "a"}]}',
    b"[" * 100_000,
    json.dumps(
        {
            "version": 1,
            "keys": [{"id": "a", "secret": "b", "principal": "c", "created_at": "yesterday"}],
        }
    ).encode(),
]


@pytest.mark.parametrize("content", CORRUPT, ids=range(len(CORRUPT)))
def test_a_corrupt_file_is_named_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=re.escape(str(path))):
        KeyFile(path).load()
    with pytest.raises(ConfigurationError):
        KeyFile(path).create()
    assert path.read_bytes() == content


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"keys\.json"):
        KeyFile(tmp_path / "file" / "keys.json").create()
