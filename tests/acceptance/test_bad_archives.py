"""Model archives that nobody should unpack: the endpoint fails, the reason says what is wrong, and
nothing lies anywhere outside."""

import gzip
import io
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from handlers import ECHO
from server import Server, archive

MEBIBYTE = 1024 * 1024
BOMB_BYTES = 10 * 1024**3

CHARACTER_DEVICE = b"3"
FIFO = b"6"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("archives")) as running:
        running.s3.create_bucket(Bucket="models")
        yield running


def archive_with(name: str, kind: bytes = tarfile.REGTYPE, linkname: str = "") -> bytes:
    """Return an archive of a good handler and one more member."""
    buffer = io.BytesIO(gzip.decompress(archive({"code/inference.py": ECHO})))
    with tarfile.open(fileobj=buffer, mode="a") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, linkname
        content = b"pwned" if kind == tarfile.REGTYPE else b""
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return gzip.compress(buffer.getvalue())


def through_a_link(target: str) -> bytes:
    """Return an archive of a link to a directory and a file that would be written through it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        link = tarfile.TarInfo("door")
        link.type, link.linkname = tarfile.SYMTYPE, target
        tar.addfile(link)
        member = tarfile.TarInfo("door/pwned")
        member.size = 5
        tar.addfile(member, io.BytesIO(b"pwned"))
    return buffer.getvalue()


def tree(directory: Path, *, but: Path) -> set[str]:
    """Return every path below ``directory``, without what lies in ``but``."""
    found = set()
    for folder, folders, files in os.walk(directory):
        here = Path(folder)
        folders[:] = [name for name in folders if here / name != but]
        found |= {str(here / name) for name in [*folders, *files]}
    return found


def unpacked(server: Server) -> list[Path]:
    """Return what of unpacked archives is left in the data directory."""
    return sorted((server.data_dir / "artifacts").glob("*"))


def failure(server: Server, name: str, url: str, timeout_s: float = 30.0) -> str:
    """Create an endpoint of the model data at ``url`` and return why it failed."""
    server.create_endpoint(name, model_data_url=url)
    reason = str(server.wait_for_status(name, "Failed", timeout_s=timeout_s)["FailureReason"])
    server.delete_endpoint(name)
    return reason


BAD: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "no-gzip": (
        lambda outside: b"PK\x03\x04 this is a zip, if anything" * 100,
        "it is not a gzip-compressed tar archive",
    ),
    "gzip-without-tar": (
        lambda outside: gzip.compress(b"only a text, and no archive\n" * 1000),
        "its tar part is damaged",
    ),
    "truncated": (
        lambda outside: archive({"code/inference.py": ECHO, "weights": os.urandom(200_000)})[
            :100_000
        ],
        "it is truncated",
    ),
    "damaged": (
        lambda outside: archive({"code/inference.py": ECHO})[:-8] + b"\0" * 8,
        "its gzip stream is damaged",
    ),
    "dot-dot": (lambda outside: archive_with("../pwned"), "'../pwned' leads out of the archive"),
    "dot-dot-inside": (
        lambda outside: archive_with("code/../../../pwned"),
        "'code/../../../pwned' leads out of the archive",
    ),
    "absolute": (
        lambda outside: archive_with(f"{outside}/pwned"),
        "pwned' has an absolute path",
    ),
    "symlink": (
        lambda outside: archive_with("secrets", tarfile.SYMTYPE, "/etc/passwd"),
        "'secrets' is a link (to '/etc/passwd')",
    ),
    "through-a-symlink": (
        lambda outside: through_a_link(str(outside)),
        "'door' is a link",
    ),
    "hard-link": (
        lambda outside: archive_with("secrets", tarfile.LNKTYPE, "/etc/passwd"),
        "'secrets' is a link (to '/etc/passwd')",
    ),
    "device": (
        lambda outside: archive_with("null", CHARACTER_DEVICE),
        "'null' is a device, a pipe or of an unknown kind",
    ),
    "fifo": (
        lambda outside: archive_with("pipe", FIFO),
        "'pipe' is a device, a pipe or of an unknown kind",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_archive_fails_its_endpoint_and_nothing_is_written_outside(
    server: Server, tmp_path: Path, kind: str
) -> None:
    make, reason = BAD[kind]
    outside = tmp_path / "outside"
    outside.mkdir()
    server.s3.put_object(Bucket="models", Key=f"{kind}/model.tar.gz", Body=make(outside))
    before, cached = tree(server.directory, but=server.data_dir), unpacked(server)

    told = failure(server, f"bad-{kind}", f"s3://models/{kind}/model.tar.gz")

    assert told.startswith('The model data for container "primary" from URL: "s3://models/')
    assert reason in told
    assert list(outside.iterdir()) == []
    assert tree(server.directory, but=server.data_dir) == before
    assert not [path for path in server.data_dir.rglob("*") if path.name == "pwned"]
    assert unpacked(server) == cached


def zeros(count: int) -> Iterator[bytes]:
    """Yield an archive of one member of ``count`` zeros, compressed, in pieces.

    The deflated form of a megabyte of zeros is the same each time once the window is full of them,
    so that gigabytes of it cost as little as one.
    """
    header = tarfile.TarInfo("weights.bin")
    header.size = count
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = bytes.fromhex("1f8b08000000000000ff")
    head += deflate.compress(header.tobuf()) + deflate.flush(zlib.Z_FULL_FLUSH)
    yield head
    block = deflate.compress(bytes(MEBIBYTE)) + deflate.flush(zlib.Z_FULL_FLUSH)
    for _ in range(count // MEBIBYTE):
        yield block


def test_ten_gigabytes_of_zeros_are_stopped_early(server: Server) -> None:
    bomb = b"".join(zeros(BOMB_BYTES))
    assert len(bomb) < 16 * MEBIBYTE
    server.s3.put_object(Bucket="models", Key="bomb/model.tar.gz", Body=bomb)
    cached = unpacked(server)

    told = failure(server, "bomb", "s3://models/bomb/model.tar.gz")

    assert "gzip bombs" in told
    assert "fleet.max_compression_ratio" in told
    assert unpacked(server) == cached


def test_limits_of_bytes_and_files_are_settings_that_the_reason_names(tmp_path: Path) -> None:
    limits = {"CLARY_FLEET_MAX_ARTIFACT_BYTES": "1000000", "CLARY_FLEET_MAX_ARTIFACT_FILES": "20"}
    with Server(tmp_path, **limits) as server:
        large = server.upload({"code/inference.py": ECHO, "weights": os.urandom(1_000_001)}, "l")
        told = failure(server, "large", large)
        assert "with member 'weights' it unpacks to more than 1000000 bytes" in told
        assert "fleet.max_artifact_bytes" in told

        many = server.upload({f"part-{i}": b"" for i in range(21)}, "many")
        told = failure(server, "many", many)
        assert "holds more than 20 files and directories" in told
        assert "fleet.max_artifact_files" in told

        assert unpacked(server) == []
        server.deploy("good", {"code/inference.py": ECHO})


@pytest.mark.parametrize(
    "url", ["s3://models/nobody/put/this.tar.gz", "s3://no-such-bucket/model.tar.gz"]
)
def test_model_data_that_is_not_there_is_told_in_awss_words(server: Server, url: str) -> None:
    told = failure(server, "missing", url)

    assert told.startswith(
        f'Failed to download model data for container "primary" from URL: "{url}". Please ensure '
        "that there is an object located at the URL and that the role passed to CreateModel has "
        "permissions to download the object."
    )


def test_an_empty_archive_has_no_handler(server: Server) -> None:
    told = failure(server, "empty", server.upload({}, "empty"))

    assert "inference.py" in told
    assert "did not pass the ping health check" in told


def test_a_name_of_many_directories_up_in_a_key_stays_a_key(server: Server) -> None:
    """The key of the object is no path either, wherever it seems to lead."""
    key = "../../../../outside/model.tar.gz"
    server.s3.put_object(Bucket="models", Key=key, Body=archive({"code/inference.py": ECHO}))
    before = tree(server.directory, but=server.data_dir)

    server.create_endpoint("up-and-away", model_data_url=f"s3://models/{key}")
    server.wait_for_status("up-and-away", "InService")

    assert server.invoke("up-and-away", b"[1]") == b"[1]"
    assert tree(server.directory, but=server.data_dir) == before
