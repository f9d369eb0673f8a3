"""A real server for tests: `clary up` in a directory of its own, on a port of its own.

Acceptance and conformance tests use it through the ``server`` fixture of ``conftest.py``, or make
one themselves when they need settings or kill things:

    with Server(tmp_path, CLARY_AUTH="on") as server:
        server.sagemaker.list_models()

At the end it stops the server and asserts that no process of it is left behind.
"""

import contextlib
import io
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from clary.settings import run_dir

CLARY = Path(sys.executable).with_name("clary")
"""The installed command, beside the interpreter that runs the tests."""

ROLE = "arn:aws:iam::123456789012:role/tests"
IMAGE = "clary/python:latest"

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 45.0  # longer than the 30 s between SIGTERM and SIGKILL of a stubborn worker

Contents = str | bytes


class Server:
    """One `clary up` and clients for it.

    Args:
        directory: Where the data directory and the server's output go; usually ``tmp_path``.
        access_key: Credentials of the clients.
        secret_key: Credentials of the clients.
        environment: Settings as environment variables, such as ``CLARY_AUTH="on"``.
    """

    def __init__(
        self,
        directory: Path,
        *,
        access_key: str = "clary",
        secret_key: str = "clary",
        **environment: str,
    ) -> None:
        self.directory = directory
        self.data_dir = directory / "data"
        self.output = directory / "server.out"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.access_key = access_key
        self.secret_key = secret_key
        self.environment = environment
        self.process: subprocess.Popen[bytes] | None = None
        self._clients: dict[str, Any] = {}
        self._seen: dict[int, str] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- life ------------------------------------------------------------------------------

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start the server, or start it again on the same data and port, and wait for it."""
        assert self.process is None, "already started"
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [
                    str(CLARY),
                    "up",
                    *("--host", "127.0.0.1"),
                    *("--port", str(self.port)),
                    *("--data-dir", str(self.data_dir)),
                ],
                env=self.environ(),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_for(self._answers, timeout_s=timeout_s, what="the server to answer")
        except AssertionError as error:
            self.kill()
            raise AssertionError(f"{error}\n{self.printed()}") from None

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Stop as Ctrl-C does, and return the exit status. Asserts that nothing is left."""
        assert self.process is not None, "not started"
        self._remember()
        self.process.terminate()
        try:
            status = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"the server did not stop within {timeout_s} s\n{self.printed()}"
            ) from None
        self.process = None
        self.assert_nothing_is_left()
        return status

    def kill(self) -> None:
        """``kill -9`` everything of this server at once."""
        assert self.process is not None, "not started"
        self._remember()
        for pid in [self.process.pid, *self.processes()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.process = None
        self.assert_nothing_is_left()

    def close(self) -> None:
        """Close the clients, stop the server where it runs, remove its sockets."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        try:
            if self.process is not None and self.process.poll() is None:
                self.stop()
            elif self.process is not None:
                self.process = None
                self.assert_nothing_is_left()
        finally:
            sockets = run_dir(self.data_dir)
            if not sockets.is_relative_to(self.data_dir):
                shutil.rmtree(sockets, ignore_errors=True)

    def environ(self) -> dict[str, str]:
        """The environment of a command that talks to this server, or is it."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("CLARY_", "AWS_", "COV_", "PYTEST_"))
        }
        return {
            **inherited,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
            "PYTHONWARNINGS": "",
            **self.environment,
        }

    def printed(self, lines: int = 60) -> str:
        """The last lines that the server printed."""
        text = self.output.read_text(errors="replace") if self.output.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    # -- processes -------------------------------------------------------------------------

    def processes(self) -> dict[int, str]:
        """Every process of this server but the supervisor itself: pid → command line.

        Children, grandchildren and so on (the supervisor is a subreaper), and whatever else names
        this data directory on its command line or in its environment.
        """
        table = process_table()
        roots = {self.process.pid} if self.process is not None else set()
        family = descendants(table, roots)
        mark = os.fsencode(self.data_dir)
        for pid in table:
            if pid not in roots and pid != os.getpid() and mark in _names(pid):
                family.add(pid)
        return {pid: command_line(pid) for pid in family - roots}

    def pids(self, *words: str) -> list[int]:
        """Pids of the processes whose command line holds all of ``words``, oldest first.

        ``server.pids("clary-worker", "digits/")``
        """
        return sorted(
            pid
            for pid, command in self.processes().items()
            if all(word in command for word in words)
        )

    def assert_nothing_is_left(self, timeout_s: float = 10.0) -> None:
        """Fail when a process of this server lives on; it is killed first."""

        def nothing() -> bool:
            return not self._left()

        try:
            wait_for(nothing, timeout_s=timeout_s, what="processes to end")
        except AssertionError:
            left = self._left()
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"left behind: {left}\n{self.printed()}") from None

    def _remember(self) -> None:
        self._seen.update({pid: start_time(pid) for pid in self.processes()})

    def _left(self) -> dict[int, str]:
        left = self.processes()
        for pid, started in self._seen.items():
            if started and start_time(pid) == started and command_line(pid):
                left[pid] = command_line(pid)
        return left

    def _answers(self) -> bool:
        assert self.process is not None
        status = self.process.poll()
        assert status is None, f"clary up ended with status {status}"
        return self.health() == 200

    def health(self) -> int:
        """HTTP status of ``/_clary/health``; 0 without a connection."""
        try:
            with urllib.request.urlopen(f"{self.url}/_clary/health", timeout=2) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0

    # -- clients ---------------------------------------------------------------------------

    def client(self, service: str, **config: Any) -> Any:
        """A boto3 client without retries, so that a test sees every fault. Closed at the end."""
        key = f"{service} {sorted(config.items())}"
        if key not in self._clients:
            make: Any = boto3.client  # the stubs know only literal names of services
            self._clients[key] = make(
                service,
                endpoint_url=self.url,
                region_name="us-east-1",
                aws_access_key_id=self.access_key,
                aws_secret_access_key=self.secret_key,
                config=Config(
                    **{"retries": {"total_max_attempts": 1}, "connect_timeout": 5, **config}
                ),
            )
        return self._clients[key]

    @property
    def sagemaker(self) -> Any:
        return self.client("sagemaker")

    @property
    def runtime(self) -> Any:
        return self.client("sagemaker-runtime")

    @property
    def s3(self) -> Any:
        return self.client("s3")

    @property
    def sts(self) -> Any:
        return self.client("sts")

    def cli(
        self, *arguments: str, check: bool = True, timeout_s: float = 60.0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a `clary` command against this server and return what it printed."""
        done = subprocess.run(
            [str(CLARY), *arguments],
            env={**self.environ(), **environment},
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        assert not check or done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done

    # -- the road that most tests take -----------------------------------------------------

    def upload(self, files: Mapping[str, Contents], name: str = "model") -> str:
        """Pack ``files`` as a model archive, put it into S3 and return its URL."""
        with contextlib.suppress(self.s3.exceptions.BucketAlreadyOwnedByYou):
            self.s3.create_bucket(Bucket="models")
        self.s3.put_object(Bucket="models", Key=f"{name}/model.tar.gz", Body=archive(files))
        return f"s3://models/{name}/model.tar.gz"

    def create_endpoint(
        self,
        name: str,
        files: Mapping[str, Contents] | None = None,
        *,
        image: str = IMAGE,
        environment: Mapping[str, str] | None = None,
        model_data_url: str | None = None,
        **variant: Any,
    ) -> None:
        """Create model, configuration and endpoint, all called ``name``, without waiting.

        Args:
            name: Of the endpoint.
            files: The archive's members by path, such as ``{"code/inference.py": "..."}``.
            image: Image URI.
            environment: Variables of the container.
            model_data_url: Instead of ``files``.
            variant: Members of the production variant, such as ``InitialInstanceCount=2``.
        """
        url = model_data_url if files is None else self.upload(files, name)
        container: dict[str, Any] = {"Image": image}
        if url:
            container["ModelDataUrl"] = url
        if environment:
            container["Environment"] = dict(environment)
        self.sagemaker.create_model(
            ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE
        )
        self.sagemaker.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[
                {
                    "VariantName": "AllTraffic",
                    "ModelName": name,
                    "InitialInstanceCount": 1,
                    "InstanceType": "ml.m5.large",
                    "InitialVariantWeight": 1.0,
                    **variant,
                }
            ],
        )
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)

    def deploy(
        self, name: str, files: Mapping[str, Contents] | None = None, **options: Any
    ) -> dict[str, Any]:
        """``create_endpoint`` and wait until it is InService; returns its description."""
        self.create_endpoint(name, files, **options)
        return self.wait_for_status(name, "InService")

    def wait_for_status(self, name: str, *statuses: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait until the endpoint is not busy any more and assert where it ends."""
        description: dict[str, Any] = {}

        def settled() -> bool:
            description.clear()
            description.update(self.sagemaker.describe_endpoint(EndpointName=name))
            return not description["EndpointStatus"].endswith(("ing", "Back"))

        wait_for(settled, timeout_s=timeout_s, what=f"endpoint {name} to settle")
        assert description["EndpointStatus"] in statuses, description
        return description

    def invoke(
        self, name: str, body: Contents = b"{}", content_type: str = "application/json", **more: Any
    ) -> bytes:
        """Invoke an endpoint and return the body."""
        reply = self.runtime.invoke_endpoint(
            EndpointName=name, Body=body, ContentType=content_type, **more
        )
        return bytes(reply["Body"].read())

    def delete_endpoint(self, name: str, timeout_s: float = 45.0) -> None:
        """Delete endpoint, configuration and model of ``create_endpoint``; wait until gone."""
        self.sagemaker.delete_endpoint(EndpointName=name)

        def gone() -> bool:
            try:
                self.sagemaker.describe_endpoint(EndpointName=name)
            except self.sagemaker.exceptions.ClientError as error:
                return "Could not find" in str(error)
            return False

        wait_for(gone, timeout_s=timeout_s, what=f"endpoint {name} to be gone")
        self.sagemaker.delete_endpoint_config(EndpointConfigName=name)
        self.sagemaker.delete_model(ModelName=name)


def archive(files: Mapping[str, Contents]) -> bytes:
    """Return a ``model.tar.gz`` with these members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for path, contents in files.items():
            data = contents.encode() if isinstance(contents, str) else contents
            member = tarfile.TarInfo(path)
            member.size = len(data)
            member.mode = 0o644
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def free_port() -> int:
    """Return a TCP port that nobody listens on.

    Below the range that the system takes for outgoing connections, so that no client of another
    test gets it before the server does.
    """
    for port in random.SystemRandom().sample(range(20000, 32000), 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port between 20000 and 32000")


def wait_for(
    condition: Callable[[], Any], *, timeout_s: float = 20.0, what: str, poll_s: float = 0.02
) -> Any:
    """Poll until ``condition`` returns something true, and return that.

    A condition that asks a process which was killed may be told to try again in a moment: on a busy
    machine a process takes longer to come back than the gateway holds calls for it.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if result := condition():
                return result
        except ClientError as error:
            if error.response["Error"]["Code"] != "ServiceUnavailable":
                raise
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(poll_s)


def process_table() -> dict[int, int]:
    """Every living process: pid → parent's pid. Zombies are not living."""
    return {pid: parent for pid, parent, state in _stats() if state != "Z"}


def descendants(table: Mapping[int, int], roots: set[int]) -> set[int]:
    """Children of ``roots``, their children, and so on."""
    family = set(roots)
    while more := {pid for pid, parent in table.items() if parent in family} - family:
        family |= more
    return family - roots


def command_line(pid: int) -> str:
    """The command line, or nothing when the process is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def start_time(pid: int) -> str:
    """When the process started, in clock ticks since boot: with the pid it is an identity."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _names(pid: int) -> bytes:
    read = b""
    for file in ("cmdline", "environ"):
        with contextlib.suppress(OSError):
            read += Path(f"/proc/{pid}/{file}").read_bytes()
    return read


def _stats() -> Iterator[tuple[int, int, str]]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            rest = (entry / "stat").read_text().rpartition(")")[2].split()
        except (OSError, IndexError):
            continue
        yield int(entry.name), int(rest[1]), rest[0]
