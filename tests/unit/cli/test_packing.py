"""What goes where in a model archive, and that the same files give the same bytes."""

import hashlib
import os
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clary.cli.failure import CommandFailed
from clary.cli.packing import existing_archive, layout, pack


def write(root: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, contents in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents.encode() if isinstance(contents, str) else contents)
    return root


@pytest.mark.parametrize(
    ("files", "names"),
    [
        pytest.param(
            ["inference.py", "helper.py", "requirements.txt", "model.joblib"],
            ["code/helper.py", "code/inference.py", "code/requirements.txt", "model.joblib"],
            id="modules become code, the rest stays at the root",
        ),
        pytest.param(
            ["inference.py", "features/__init__.py", "features/words.txt", "onnx/model.onnx"],
            [
                "code/features/__init__.py",
                "code/features/words.txt",
                "code/inference.py",
                "onnx/model.onnx",
            ],
            id="a package is code with all that is in it, another folder is not",
        ),
        pytest.param(
            ["code/inference.py", "train.py", "model.joblib"],
            ["code/inference.py", "model.joblib", "train.py"],
            id="a directory that has code/ is laid out already",
        ),
        pytest.param(
            [
                "inference.py",
                ".git/config",
                "__pycache__/inference.cpython-311.pyc",
                ".venv/bin/python",
                "env/pyvenv.cfg",
                "env/bin/python",
                "old.pyc",
                ".DS_Store",
            ],
            ["code/inference.py"],
            id="what tools leave behind is left behind",
        ),
    ],
)
def test_layout_of_a_handler(files: list[str], names: list[str], tmp_path: Path) -> None:
    write(tmp_path, dict.fromkeys(files, "x"))
    assert [member.name for member in layout(tmp_path)] == names


def test_all_of_a_server_is_code(tmp_path: Path) -> None:
    write(tmp_path, {"server.py": "", "static/page.html": "", "model.bin": ""})
    names = [member.name for member in layout(tmp_path, own_server=True)]
    assert names == ["code/model.bin", "code/server.py", "code/static/page.html"]


def test_equal_files_give_equal_archives_whatever_their_times(tmp_path: Path) -> None:
    files = {"inference.py": "def model_fn(d): ...", "weights/a.bin": b"\0" * 1000}
    first, second = (write(tmp_path / name, files) for name in ("one", "two"))
    os.utime(second / "inference.py", (time.time() - 1000, 12345))
    archives = [pack(layout(d), d.with_suffix(".tar.gz")) for d in (first, second)]
    assert archives[0].digest == archives[1].digest
    assert archives[0].digest == hashlib.sha256(archives[0].file.read_bytes()).hexdigest()
    write(second, {"inference.py": "def model_fn(d): pass"})
    assert pack(layout(second), tmp_path / "three").digest != archives[0].digest


def test_links_are_packed_as_the_files_they_lead_to(tmp_path: Path) -> None:
    write(tmp_path, {"blobs/abc": "weights", "m/inference.py": ""})
    (tmp_path / "m" / "model.bin").symlink_to(tmp_path / "blobs" / "abc")
    archive = pack(layout(tmp_path / "m"), tmp_path / "out.tar.gz")
    with tarfile.open(archive.file) as tar:
        member = tar.getmember("model.bin")
        assert member.isreg()
        assert tar.extractfile(member).read() == b"weights"  # type: ignore[union-attr]


def test_a_link_to_a_directory_above_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"inference.py": ""})
    (tmp_path / "loop").symlink_to(tmp_path)
    with pytest.raises(CommandFailed, match="links to a directory that it lies in"):
        layout(tmp_path)


def test_a_broken_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.bin").symlink_to(tmp_path / "gone")
    with pytest.raises(CommandFailed, match=r"model\.bin is a broken link"):
        layout(tmp_path)


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="no files"):
        layout(tmp_path)


def test_programs_stay_executable_and_owners_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, {"start.sh": "#!/bin/sh", "server.py": ""})
    (tmp_path / "start.sh").chmod(0o750)
    archive = pack(layout(tmp_path, own_server=True), tmp_path / "out.tar.gz")
    with tarfile.open(archive.file) as tar:
        modes = {member.name: member.mode for member in tar}
        assert modes == {"code/server.py": 0o644, "code/start.sh": 0o755}
        assert {(m.uid, m.gid, m.uname, m.mtime) for m in tar.getmembers()} == {(0, 0, "", 0)}


def test_progress_counts_every_byte(tmp_path: Path) -> None:
    write(tmp_path, {"inference.py": "x" * 10, "model.bin": b"y" * 3_000_000})
    seen: list[int] = []
    pack(layout(tmp_path), tmp_path.with_suffix(".out"), seen.append)
    assert sum(seen) == 3_000_010


def test_a_finished_archive_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "model.tar.gz"
    file.write_bytes(b"\x1f\x8bwhatever")
    archive = existing_archive(file)
    assert (archive.size, archive.members) == (10, None)
    assert archive.digest == hashlib.sha256(b"\x1f\x8bwhatever").hexdigest()


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.zip"
    file.write_bytes(b"PK")
    with pytest.raises(CommandFailed, match="neither a directory nor"):
        existing_archive(file)


NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 200)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(names=st.sets(NAMES, min_size=1, max_size=4), body=st.binary(max_size=100))
def test_what_is_packed_comes_out_again(names: set[str], body: bytes, tmp_path: Path) -> None:
    root = tmp_path / hashlib.sha256(repr(sorted(names)).encode() + body).hexdigest()
    root.mkdir(exist_ok=True)
    for name in names:
        (root / name).write_bytes(body)
    (root / "inference.py").write_bytes(body)
    members = layout(root)
    archive = pack(members, root.with_suffix(".tar.gz"))
    with tarfile.open(archive.file) as tar:
        assert [member.name for member in tar] == [member.name for member in members]
        for member in tar:
            assert tar.extractfile(member).read() == body  # type: ignore[union-attr]
