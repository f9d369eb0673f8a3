"""The store on a real disk: starts, crashes, and disks that do not take anything."""

import asyncio
import errno
from pathlib import Path

import pytest

from clary.aws.fault import Fault
from clary.errors import ConfigurationError
from clary.objects.files import ContentFiles, telling_full_disk
from clary.objects.server import build_objects_app
from objects_server import ObjectsServer
from s3_clients import s3_client


def _open(directory: Path) -> None:
    build_objects_app(
        directory, region="us-east-1", account="123456789012", keys=lambda: {}
    ).close()


def _files(directory: Path) -> list[Path]:
    return [path for path in (directory / "objects" / "content").rglob("*") if path.is_file()]


def test_objects_outlive_the_server_and_leftovers_do_not(tmp_path: Path) -> None:
    body = b"x" * 300_000
    with ObjectsServer(tmp_path) as server:
        client = s3_client(server.url)
        client.create_bucket(Bucket="kept")
        client.put_object(Bucket="kept", Key="k", Body=body)
        client.put_object(Bucket="kept", Key="replaced", Body=body)
        client.put_object(Bucket="kept", Key="replaced", Body=b"small")
        client.close()
    assert len(_files(tmp_path)) == 1
    # What a crash leaves: a file that no row names yet, and one that is being written.
    (tmp_path / "objects" / "content" / "ab" / "ab01").write_bytes(b"orphan")
    (tmp_path / "objects" / "drafts" / "cd02").write_bytes(b"draft")
    with ObjectsServer(tmp_path) as server:
        client = s3_client(server.url)
        assert client.get_object(Bucket="kept", Key="k")["Body"].read() == body
        assert client.get_object(Bucket="kept", Key="replaced")["Body"].read() == b"small"
        client.close()
    assert len(_files(tmp_path)) == 1
    assert list((tmp_path / "objects" / "drafts").iterdir()) == []


def test_keys_never_reach_the_file_system(tmp_path: Path) -> None:
    files = ContentFiles(tmp_path)
    draft = files.create()
    draft.write([b"a", b"b"])
    path = next(path for path in (tmp_path / "drafts").iterdir())
    assert path.read_bytes() == b"ab"
    name = draft.keep()
    assert (tmp_path / "content" / name[:2] / name).read_bytes() == b"ab"


@pytest.mark.parametrize(
    "damage", [b"no database at all" * 500, b"SQLite format 3\0" + b"z" * 9000]
)
def test_a_corrupt_database_is_named(tmp_path: Path, damage: bytes) -> None:
    _open(tmp_path)
    path = tmp_path / "objects" / "metadata.sqlite"
    path.write_bytes(damage)
    with pytest.raises(ConfigurationError, match=r"metadata\.sqlite is corrupt"):
        _open(tmp_path)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "objects").write_text("a file is in the way")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        _open(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_in_the_way_of_s3(number: int) -> None:
    with pytest.raises(Fault) as caught, telling_full_disk():
        raise OSError(number, "no room")
    assert (caught.value.code, caught.value.status) == ("InsufficientStorage", 507)


def test_many_writers_share_their_commits(tmp_path: Path) -> None:
    from clary.objects.database import Database, Transaction

    database = Database(tmp_path / "m.sqlite")

    def put(name: str) -> str:
        def change(transaction: Transaction) -> str:
            transaction.execute("INSERT INTO buckets VALUES (?, 0, '')", (name,))
            if name.endswith("7"):
                raise Fault("Refused")
            return name

        return change  # type: ignore[return-value]

    async def story() -> list[object]:
        writes = [database.write(put(f"b{n}")) for n in range(100)]  # type: ignore[arg-type]
        return await asyncio.gather(*writes, return_exceptions=True)

    outcomes = asyncio.run(story())
    kept = {row[0] for row in database.reader().execute("SELECT name FROM buckets")}
    database.close()
    assert kept == {f"b{n}" for n in range(100) if n % 10 != 7}
    assert sum(isinstance(outcome, Fault) for outcome in outcomes) == 10
