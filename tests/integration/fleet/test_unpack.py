import gzip
import io
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clary.fleet.unpack import BadArchive, UnpackLimits, unpack
from fleets import pack

LIMITS = UnpackLimits(max_bytes=200_000_000, max_files=50, max_ratio=1000)


def unpacked(directory: Path, data: bytes, limits: UnpackLimits = LIMITS) -> dict[str, bytes]:
    archive = directory / "archive"
    archive.write_bytes(data)
    target = directory / "target"
    target.mkdir()
    unpack(archive, target, limits)
    return {str(f.relative_to(target)): f.read_bytes() for f in target.rglob("*") if f.is_file()}


def header(**fields: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo()
    for name, value in fields.items():
        setattr(member, name, value)
    return member


def link(target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    return header(type=kind, linkname=target)


def test_files_arrive_as_they_were_packed(tmp_path: Path) -> None:
    files = {"model.bin": b"\0" * 70_000, "./code/inference.py": b"x = 1", "a/b/c/d": b""}

    assert unpacked(tmp_path, pack(files)) == {  # type: ignore[arg-type]
        "model.bin": b"\0" * 70_000,
        "code/inference.py": b"x = 1",
        "a/b/c/d": b"",
    }


def test_files_are_read_only_and_programs_stay_programs(tmp_path: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        tar.addfile(header(name="plain", mode=0o666))
        tar.addfile(header(name="program", mode=0o6755))
    unpacked(tmp_path, data.getvalue())

    assert (tmp_path / "target" / "plain").stat().st_mode & 0o7777 == 0o444
    assert (tmp_path / "target" / "program").stat().st_mode & 0o7777 == 0o555


def test_several_gzip_members_and_padding_are_one_archive(tmp_path: Path) -> None:
    plain = gzip.decompress(pack({"a": b"1", "b": b"2"}))
    data = gzip.compress(plain[:700]) + gzip.compress(plain[700:]) + b"\0" * 64

    assert unpacked(tmp_path, data) == {"a": b"1", "b": b"2"}


def test_a_later_member_of_the_same_name_wins(tmp_path: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for contents in (b"first", b"second"):
            member = header(name="a", size=len(contents))
            tar.addfile(member, io.BytesIO(contents))

    assert unpacked(tmp_path, data.getvalue()) == {"a": b"second"}


A_FILE = pack({"model.bin": b"some weights" * 1000})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(lambda: b"", "not a gzip", id="empty"),
        pytest.param(lambda: b"PK\x03\x04 zip", "not a gzip", id="zip"),
        pytest.param(lambda: gzip.decompress(A_FILE), "not a gzip", id="plain tar"),
        pytest.param(lambda: gzip.compress(b"x" * 5000), "damaged", id="gzip of no tar"),
        pytest.param(lambda: A_FILE[:-6], "truncated", id="truncated in the trailer"),
        pytest.param(lambda: A_FILE[: len(A_FILE) // 2], "truncated", id="truncated"),
        pytest.param(
            lambda: gzip.compress(gzip.decompress(A_FILE)[:2000]), "damaged", id="truncated tar"
        ),
        pytest.param(
            lambda: A_FILE[:60] + b"\xff\xff" + A_FILE[62:], "damaged", id="flipped bytes"
        ),
        pytest.param(lambda: pack({"../x": "1"}), r"member '\.\./x' leads out", id="dots"),
        pytest.param(lambda: pack({"a/../../x": "1"}), "leads out", id="dots inside"),
        pytest.param(lambda: pack({"/etc/x": "1"}), "absolute path", id="absolute"),
        pytest.param(lambda: pack({"l": link("/etc/passwd")}), "'l' is a link", id="symlink"),
        pytest.param(
            lambda: pack({"l": link("a", tarfile.LNKTYPE)}), "'l' is a link", id="hard link"
        ),
        pytest.param(
            lambda: pack({"d": header(type=tarfile.CHRTYPE)}), "device", id="character device"
        ),
        pytest.param(
            lambda: pack({"d": header(type=tarfile.BLKTYPE)}), "device", id="block device"
        ),
        pytest.param(lambda: pack({"p": header(type=tarfile.FIFOTYPE)}), "pipe", id="pipe"),
        pytest.param(lambda: pack({"a": "1", "a/b": "2"}), "'a/b'", id="file as directory"),
        pytest.param(lambda: pack({"x" * 300: "1"}), "too long", id="long name"),
        pytest.param(
            lambda: pack({f"f{n}": "" for n in range(60)}), "more than 50 files", id="many files"
        ),
        pytest.param(
            lambda: pack({"/".join("d" * 60): ""}), "more than 50 files", id="many directories"
        ),
        pytest.param(
            lambda: pack({"zeros": b"\0" * 150_000_000}), "max_compression_ratio", id="gzip bomb"
        ),
    ],
)
def test_what_is_refused_names_the_member_or_the_limit(
    tmp_path: Path, data: Callable[[], bytes], words: str
) -> None:
    with pytest.raises(BadArchive, match=words):
        unpacked(tmp_path, data())

    assert sorted(p.name for p in tmp_path.iterdir()) == ["archive", "target"]


@pytest.mark.parametrize("size", [600, 5_000_000], ids=["by its headers", "by its stream"])
def test_an_archive_over_the_limit_of_bytes_is_refused(tmp_path: Path, size: int) -> None:
    limits = UnpackLimits(max_bytes=1000, max_files=50, max_ratio=1000)

    with pytest.raises(BadArchive, match="max_artifact_bytes"):
        unpacked(tmp_path, pack({"a": b"1" * 500, "b": b"2" * size}), limits)


def test_a_header_that_claims_gigabytes_does_not_fill_the_memory(tmp_path: Path) -> None:
    bomb = header(name="pax", type=tarfile.XHDTYPE, size=8 * 1024**3)
    data = gzip.compress(bomb.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1_000_000)

    with pytest.raises(BadArchive, match="header of"):
        unpacked(tmp_path, data)


def test_a_check_stops_in_the_middle(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def check() -> None:
        raise Stopped

    (tmp_path / "archive").write_bytes(A_FILE)
    (tmp_path / "target").mkdir()
    with pytest.raises(Stopped):
        unpack(tmp_path / "archive", tmp_path / "target", LIMITS, check=check)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damage_anywhere_is_refused_or_harmless(data: st.DataObject) -> None:
    plain = bytearray(gzip.decompress(pack({"a/b": b"1" * 600, "c": b"2"})))
    for _ in range(data.draw(st.integers(1, 4))):
        plain[data.draw(st.integers(0, 2600))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as directory:
        try:
            unpacked(Path(directory), gzip.compress(bytes(plain), 1))
        except BadArchive:
            pass
        assert sorted(p.name for p in Path(directory).iterdir()) == ["archive", "target"]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_after_the_magic_are_no_archive(noise: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.raises(BadArchive):
        unpacked(Path(directory), b"\x1f\x8b\x08" + noise)
