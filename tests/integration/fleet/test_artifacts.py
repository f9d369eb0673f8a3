import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from clary.errors import NotFound, PermanentError
from clary.fleet.artifacts import Artifact, Artifacts, ArtifactSource
from clary.fleet.cache import Cache
from clary.fleet.unpack import UnpackLimits
from fleets import FileStorage, pack

LIMITS = UnpackLimits(max_bytes=1_000_000, max_files=50, max_ratio=1000)


class Bench:
    """Artifacts in a directory of their own."""

    def __init__(self, directory: Path, roots: tuple[str, ...] = ("/",)) -> None:
        self.storage = FileStorage()
        self.cache = Cache(directory / "artifacts")
        self.cache.open()
        self.executor = ThreadPoolExecutor(2)
        self.artifacts = Artifacts(self.cache, self.storage, LIMITS, roots, self.executor)

    def run(self, story: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            try:
                await story()
            finally:
                await self.cache.close()
                self.executor.shutdown()

        asyncio.run(main())

    async def fetch(self, url: str, form: str = "archive", holder: str = "i-1") -> Artifact:
        source = ArtifactSource(url=url, form=form)  # type: ignore[arg-type]
        return await self.artifacts.fetch(source, holder=holder)

    def entries(self) -> list[str]:
        return [path.name for path in self.cache.directory.iterdir()]


def files_of(artifact: Artifact) -> dict[str, str]:
    root = artifact.directory
    return {str(f.relative_to(root)): f.read_text() for f in root.rglob("*") if f.is_file()}


def test_an_archive_is_known_by_its_content_and_not_by_its_name(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def story() -> None:
        bench.storage.put("s3://b/model", pack({"a": "1"}))
        bench.storage.put("s3://b/model.tar.gz", b"not one")

        assert files_of(await bench.fetch("s3://b/model")) == {"a": "1"}
        with pytest.raises(PermanentError, match="not a gzip"):
            await bench.fetch("s3://b/model.tar.gz")
        assert len(bench.entries()) == 1

    bench.run(story)


def test_concurrent_requests_fetch_once_and_later_ones_not_at_all(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def story() -> None:
        bench.storage.put("s3://b/m", pack({"a": "1"}))
        fetched = await asyncio.gather(*(bench.fetch("s3://b/m", holder=f"{n}") for n in range(8)))
        fetched.append(await bench.fetch("s3://b/m"))

        assert len({artifact.directory for artifact in fetched}) == 1
        assert bench.storage.downloads == 1

    bench.run(story)


def test_an_object_that_was_overwritten_is_fetched_anew(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def story() -> None:
        bench.storage.put("s3://b/m", pack({"a": "1"}))
        first = await bench.fetch("s3://b/m")
        bench.storage.put("s3://b/m", pack({"a": "2"}))
        second = await bench.fetch("s3://b/m")

        assert (files_of(first), files_of(second)) == ({"a": "1"}, {"a": "2"})

    bench.run(story)


def test_a_prefix_is_taken_as_a_tree(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def story() -> None:
        for key in ("m/v1/config.json", "m/v1/code/inference.py", "m/v1/", "m/v10/other"):
            bench.storage.put(f"s3://b/{key}", b"x")

        artifact = await bench.fetch("s3://b/m/v1/", "tree")

        assert set(files_of(artifact)) == {"config.json", "code/inference.py"}

    bench.run(story)


def test_keys_that_would_lead_out_of_a_tree_are_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def story() -> None:
        bench.storage.put("s3://b/m/../../../escape", b"x")

        with pytest.raises(PermanentError, match="name"):
            await bench.fetch("s3://b/m/", "tree")
        assert bench.entries() == []

    bench.run(story)


def test_a_single_object_is_a_file_of_its_name(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def story() -> None:
        bench.storage.put("s3://b/m/weights.bin", b"w")

        assert files_of(await bench.fetch("s3://b/m/weights.bin", "object")) == {"weights.bin": "w"}

    bench.run(story)


@pytest.mark.parametrize(
    ("url", "form"),
    [("s3://b/none", "archive"), ("s3://b/none/", "tree"), ("/nowhere/at/all", "archive")],
)
def test_what_is_not_there_is_not_found(tmp_path: Path, url: str, form: str) -> None:
    bench = Bench(tmp_path)

    async def story() -> None:
        with pytest.raises(NotFound):
            await bench.fetch(url, form)

    bench.run(story)


@pytest.mark.parametrize("url", ["ftp://a/b", "model.tar.gz", "s3:///key", "file://host/x", ""])
def test_what_is_no_place_is_refused(tmp_path: Path, url: str) -> None:
    bench = Bench(tmp_path)

    async def story() -> None:
        with pytest.raises(PermanentError):
            await bench.fetch(url)

    bench.run(story)


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_a_local_directory_is_copied_so_that_edits_do_not_reach_what_runs(
    tmp_path: Path, prefix: str
) -> None:
    bench = Bench(tmp_path)
    source = tmp_path / "my model"
    (source / "code").mkdir(parents=True)
    (source / "code" / "inference.py").write_text("1")

    async def story() -> None:
        url = f"{prefix}{source}".replace(" ", "%20" if prefix else " ")
        first = await bench.fetch(url)
        (source / "code" / "inference.py").write_text("changed")
        second = await bench.fetch(url)

        assert files_of(first) == {"code/inference.py": "1"}
        assert files_of(second) == {"code/inference.py": "changed"}

    bench.run(story)


def test_a_local_archive_is_unpacked_and_stays(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    (tmp_path / "m.tgz").write_bytes(pack({"a": "1"}))

    async def story() -> None:
        assert files_of(await bench.fetch(f"file://{tmp_path}/m.tgz")) == {"a": "1"}
        assert (tmp_path / "m.tgz").exists()

    bench.run(story)


def test_local_links_are_followed_within_the_roots_and_not_in_circles(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "m").mkdir(parents=True)
    (root / "blob").write_text("weights")
    (root / "m" / "model.bin").symlink_to(root / "blob")
    (root / "m" / "again").symlink_to(root / "m")
    bench = Bench(tmp_path, (str(root),))

    async def story() -> None:
        assert files_of(await bench.fetch(str(root / "m"))) == {"model.bin": "weights"}

    bench.run(story)


def test_nothing_outside_the_roots_is_read(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "m").mkdir(parents=True)
    (tmp_path / "secret").write_text("s")
    (root / "m" / "model.bin").symlink_to(tmp_path / "secret")
    bench = Bench(tmp_path, (str(root),))

    async def story() -> None:
        for url in (str(tmp_path / "secret"), f"{root}/../secret", str(root / "m")):
            with pytest.raises(PermanentError, match="file_roots"):
                await bench.fetch(url)
        assert bench.entries() == []

    bench.run(story)


@pytest.fixture
def web() -> Iterator[tuple[str, list[str]]]:
    """An HTTP server with one archive, and the requests that it got."""
    requests: list[str] = []
    data = pack({"a": "1"})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            if self.path.startswith("/missing"):
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("ETag", '"1"')
            short = 10 if self.path.startswith("/short") else 0
            self.send_header("Content-Length", str(len(data) + short))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", requests
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_archive_may_come_over_http(tmp_path: Path, web: tuple[str, list[str]]) -> None:
    bench = Bench(tmp_path)

    async def story() -> None:
        first = await bench.fetch(f"{web[0]}/m.tar.gz")
        second = await bench.fetch(f"{web[0]}/m.tar.gz")

        assert files_of(first) == {"a": "1"}
        assert first == second
        with pytest.raises(NotFound):
            await bench.fetch(f"{web[0]}/missing")

    bench.run(story)


def test_a_full_disk_has_a_clear_reason_and_leaves_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def fill() -> None:
        raise OSError(28, "No space left on device")

    async def story() -> None:
        bench.storage.put("s3://b/m", pack({"a": "1"}))
        bench.storage.before_download = fill
        with pytest.raises(PermanentError, match="ran out of disk space"):
            await bench.fetch("s3://b/m")
        assert bench.entries() == []

    bench.run(story)


def test_the_making_ends_with_its_last_waiter_and_can_begin_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    begun, held = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        begun.set()
        await held.wait()

    async def story() -> None:
        bench.storage.put("s3://b/m", pack({"a": "1"}))
        bench.storage.before_download = hold
        waiters = [asyncio.create_task(bench.fetch("s3://b/m")) for _ in range(2)]
        await begun.wait()
        waiters[0].cancel()
        await asyncio.wait(waiters[:1])
        assert len(bench.entries()) == 1
        waiters[1].cancel()
        await asyncio.wait(waiters)
        held.set()

        assert files_of(await bench.fetch("s3://b/m")) == {"a": "1"}
        assert bench.storage.downloads == 2

    bench.run(story)


def test_unused_entries_are_collected_and_held_ones_stay(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def story() -> None:
        for name in "ab":
            bench.storage.put(f"s3://b/{name}", pack({name: name}))
        kept = await bench.fetch("s3://b/a", holder="i-1")
        await bench.fetch("s3://b/b", holder="i-2")
        bench.cache.release("i-2")

        await bench.cache.collect(max_age_s=0, max_bytes=0)

        assert bench.entries() == [kept.key]

    bench.run(story)


def test_what_a_crash_left_half_made_is_removed_at_the_start(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "artifacts")
    (cache.directory / ".partial-x" / "files").mkdir(parents=True)
    (cache.directory / "deadbeef").mkdir()
    os.chmod(cache.directory / "deadbeef", 0o500)

    cache.open()

    assert list(cache.directory.iterdir()) == []
