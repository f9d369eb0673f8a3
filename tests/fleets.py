"""A fleet for tests: a real supervisor, real hosts and workers, and storage in memory."""

import asyncio
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import clary.worker
from builders import a_container, a_model
from clary.errors import NotFound
from clary.fleet.fleet import Fleet
from clary.fleet.instance import InstanceOrder, ObservedInstance
from clary.settings import FleetSettings, ServerSettings, Settings
from clary.supervisor import Plan
from server import wait_for

HOST_COMMAND = (
    sys.executable,
    "-I",
    "-S",
    str(Path(clary.worker.__file__).with_name("host_main.py")),
)
ECHO = "def model_fn(model_dir): return None\ndef predict_fn(data, model): return data\n"


@dataclass(frozen=True)
class StoredFile:
    key: str
    size: int
    etag: str


@dataclass
class FileStorage:
    """Objects in memory, with the calls that the fleet makes. Counts downloads."""

    objects: dict[tuple[str, str], bytes] = field(default_factory=dict)
    downloads: int = 0
    before_download: Callable[[], Awaitable[None]] | None = None

    def put(self, url: str, data: bytes) -> str:
        bucket, _, key = url.removeprefix("s3://").partition("/")
        self.objects[bucket, key] = data
        return url

    async def head(self, bucket: str, key: str) -> StoredFile:
        data = self._find(bucket, key)
        return StoredFile(key, len(data), f"{hash(data):x}")

    async def list(self, bucket: str, prefix: str) -> AsyncIterator[StoredFile]:
        for name, key in sorted(self.objects):
            if name == bucket and key.startswith(prefix):
                yield await self.head(bucket, key)

    async def download(self, bucket: str, key: str, path: Path) -> None:
        self.downloads += 1
        if self.before_download is not None:
            await self.before_download()
        path.write_bytes(self._find(bucket, key))

    def _find(self, bucket: str, key: str) -> bytes:
        if (bucket, key) not in self.objects:
            raise NotFound(f"there is no object {key} in {bucket}")
        return self.objects[bucket, key]


def pack(files: Mapping[str, str | bytes | tarfile.TarInfo]) -> bytes:
    """Return a ``.tar.gz``; a value may be a header of its own, for what no honest tool packs."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, contents in files.items():
            if isinstance(contents, tarfile.TarInfo):
                contents.name = name
                tar.addfile(contents)
                continue
            data = contents.encode() if isinstance(contents, str) else contents
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@dataclass
class Site:
    """A data directory with a supervisor."""

    data_dir: Path
    storage: FileStorage
    supervisor: subprocess.Popen[bytes] | None = None

    @property
    def run_dir(self) -> Path:
        return self.data_dir / "run"

    def start_supervisor(self) -> None:
        logs = self.data_dir / "logs" / "server"
        for directory in (self.run_dir, logs):
            directory.mkdir(parents=True, exist_ok=True)
        plan = Plan(
            data_dir=str(self.data_dir),
            run_dir=str(self.run_dir),
            log_dir=str(logs),
            host="127.0.0.1",
            port=0,
            roles=[],
        )
        plan_file = self.run_dir / "plan.json"
        plan_file.write_text(plan.to_json())
        socket = self.run_dir / "supervisor.sock"
        socket.unlink(missing_ok=True)
        self.supervisor = subprocess.Popen(
            [sys.executable, "-m", "clary.supervisor", "clary-supervisor", str(plan_file)]
        )
        wait_for(socket.exists, what="the supervisor")

    def stop_supervisor(self) -> None:
        if self.supervisor is not None:
            self.supervisor.terminate()
            self.supervisor.wait(40)
            self.supervisor = None

    def kill_supervisor(self) -> None:
        assert self.supervisor is not None
        self.supervisor.kill()
        self.supervisor.wait()
        self.supervisor = None

    def settings(self, **fleet: Any) -> Settings:
        return Settings(
            server=ServerSettings(data_dir=str(self.data_dir)),
            fleet=FleetSettings(**{"stop_timeout_s": 3.0, **fleet}),
        )

    def fleet(self, host_command: Sequence[str] = HOST_COMMAND, **settings: Any) -> Fleet:
        return Fleet(
            self.settings(**settings),
            self.run_dir,
            self.storage,
            host_command=host_command,
            model_variables={"AWS_REGION": "us-east-1"},
            environ=dict(os.environ),
        )

    @asynccontextmanager
    async def opened(self, **settings: Any) -> AsyncIterator[Fleet]:
        fleet = self.fleet(**settings)
        await fleet.open()
        try:
            yield fleet
        finally:
            await fleet.close()

    def processes(self, *words: str) -> list[int]:
        """Pids of living processes whose command line has all the words, and this directory."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if str(self.data_dir) in line and state != "Z" and all(w in line for w in words):
                found.append(int(entry.name))
        return found


def an_order(url: str | None, id: str = "i-1", **fields: Any) -> InstanceOrder:
    container: dict[str, Any] = {"image": "clary/python", "model_data_url": url}
    container.update(fields.pop("container", {}))
    defaults: dict[str, Any] = {
        "id": id,
        "endpoint_name": "digits",
        "variant_name": "AllTraffic",
        "instance_type": "ml.t2.medium",
        "model": a_model(containers=(a_container(**container),)),
    }
    return InstanceOrder(**{**defaults, **fields})


async def observed_until(
    fleet: Fleet, condition: Callable[[dict[str, ObservedInstance]], Any], timeout_s: float = 20
) -> dict[str, ObservedInstance]:
    """Wait, woken by the fleet's own notices, until its instances fulfil a condition."""
    changed = asyncio.Event()
    fleet.watch(lambda _: changed.set())
    async with asyncio.timeout(timeout_s):
        while True:
            changed.clear()
            seen = {instance.id: instance for instance in await fleet.observe("digits")}
            if condition(seen):
                return seen
            await changed.wait()
