"""All storage clients, held to one contract against a running embedded S3."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from clary.errors import AlreadyExists, NotFound, PermanentError, TransientError
from clary.jobs.quick_storage import QuickTransfers
from clary.objects.client import EmbeddedStorage, ObjectInfo, ObjectStorage
from clary.objects.external_client import ExternalStorage
from objects_server import ObjectsServer
from s3_clients import ACCESS_KEY, SECRET_KEY, s3_client


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectsServer]:
    with ObjectsServer(tmp_path_factory.mktemp("o")) as running:
        client = s3_client(running.url)
        client.create_bucket(Bucket="models")
        client.close()
        yield running


@pytest.fixture(params=["embedded", "quick", "external"])
def storage(
    request: pytest.FixtureRequest, server: ObjectsServer, monkeypatch: pytest.MonkeyPatch
) -> ObjectStorage:
    if request.param == "embedded":
        return EmbeddedStorage(server.socket_path)
    if request.param == "quick":
        return QuickTransfers(server.socket_path)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    return ExternalStorage(server.url, "us-east-1")


def run(storage: ObjectStorage, story: Callable[[], Awaitable[None]]) -> None:
    """Run a story, and close what it opened."""

    async def whole() -> None:
        try:
            await story()
        finally:
            if isinstance(storage, QuickTransfers):
                storage.close()
                await asyncio.sleep(0)

    asyncio.run(whole())


async def _list(storage: ObjectStorage, bucket: str, prefix: str) -> list[ObjectInfo]:
    return [found async for found in storage.list(bucket, prefix)]


def test_what_is_uploaded_is_found_listed_and_downloaded(
    storage: ObjectStorage, tmp_path: Path
) -> None:
    body = bytes(range(256)) * 12_000
    (tmp_path / "in").write_bytes(body)
    told: list[tuple[int, int]] = []

    async def story() -> None:
        await storage.upload("models", "a b/ü+%.bin", tmp_path / "in")
        await storage.upload("models", "a b/small", b"x")
        head = await storage.head("models", "a b/ü+%.bin")
        assert (head.size, len(head.etag)) == (len(body), 32)
        listed = await _list(storage, "models", "a b/")
        assert [found.key for found in listed] == ["a b/small", "a b/ü+%.bin"]
        info = await storage.download(
            "models", head.key, tmp_path / "out", on_progress=lambda *now: told.append(now)
        )
        assert info == head
        assert await storage.get("models", "a b/small") == b"x"

    run(storage, story)
    assert (tmp_path / "out").read_bytes() == body
    assert told[-1] == (len(body), len(body))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_what_is_not_there_is_not_found_and_leaves_no_file(
    storage: ObjectStorage, tmp_path: Path
) -> None:
    async def story() -> None:
        for call in (
            storage.head("models", "none"),
            storage.get("models", "none"),
            storage.download("models", "none", tmp_path / "out"),
            storage.upload("no-such-bucket", "k", b""),
            _list(storage, "no-such-bucket", ""),
        ):
            with pytest.raises(NotFound, match="s3://"):
                await call
        assert await _list(storage, "models", "none") == []

    run(storage, story)
    assert list(tmp_path.iterdir()) == []


def test_a_storage_that_is_away_may_come_back(tmp_path: Path) -> None:
    with pytest.raises(TransientError):
        asyncio.run(EmbeddedStorage(tmp_path / "none.sock").head("b", "k"))


def test_an_object_says_what_it_is_and_who_wrote_it(storage: ObjectStorage) -> None:
    async def story() -> None:
        await storage.upload(
            "models", "typed", b"1", content_type="text/csv", metadata={"by": "me"}
        )
        head = await storage.head("models", "typed")
        assert (head.content_type, dict(head.metadata)) == ("text/csv", {"by": "me"})

    run(storage, story)


@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_what_must_be_new_is_written_once(
    storage: ObjectStorage, tmp_path: Path, kind: str
) -> None:
    key = f"{type(storage).__name__}-{kind}"
    (tmp_path / "content").write_bytes(b"first")
    content = b"first" if kind == "bytes" else tmp_path / "content"

    async def story() -> None:
        await storage.upload("models", key, content, is_new=True)
        with pytest.raises(AlreadyExists):
            await storage.upload("models", key, b"second", is_new=True)
        assert await storage.get("models", key) == b"first"
        await storage.upload("models", key, b"third")
        assert await storage.get("models", key) == b"third"

    run(storage, story)


def test_small_objects_come_as_bytes_and_long_ones_as_files(
    storage: ObjectStorage, tmp_path: Path
) -> None:
    path = tmp_path / "fetched"

    async def fetch(small_bytes: int, max_bytes: int) -> bytes | None:
        return await storage.fetch(
            "models", "ten", path, small_bytes=small_bytes, max_bytes=max_bytes
        )

    async def story() -> None:
        await storage.upload("models", "ten", b"0123456789")
        assert await fetch(10, 10) == b"0123456789"
        assert not path.exists()
        assert await fetch(9, 10) is None
        assert path.read_bytes() == b"0123456789"
        with pytest.raises(PermanentError, match="at most 9"):
            await fetch(9, 9)
        with pytest.raises(NotFound):
            await storage.fetch("models", "none", path, small_bytes=1, max_bytes=1)

    run(storage, story)
