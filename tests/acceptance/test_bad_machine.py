"""A machine that is not as it should be: full or read-only disk, taken port, damaged files.

What is wrong is said at the start, by an exit status and a line, or at the call that met it;
nothing is half-written, and what was there stays as it was.
"""

import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from handlers import ECHO
from server import CLARY, IMAGE, Server, archive, wait_for

MEBIBYTE = 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own of 24 MB, unmounted at the end."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs", str(directory)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def fill(disk: Path) -> Path:
    """Use up all space of a file system; return the file that does."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (MEBIBYTE, 4096):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
    return ballast


def refused_start(
    directory: Path,
    *arguments: str,
    status: int = 2,
    data_dir: Path | None = None,
    **environment: str,
) -> str:
    """Run `clary up`, which has to end by itself; return what it said.

    The status is 2 for a setting or a file that has to be mended, 1 for what may pass.
    """
    server = Server(directory, **environment)
    server.data_dir = data_dir or server.data_dir
    done = subprocess.run(
        [
            str(CLARY),
            "up",
            *("--port", str(server.port)),
            *("--data-dir", str(server.data_dir)),
            *arguments,
        ],
        env=server.environ(),
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.returncode == status, done.stdout
    assert "Traceback" not in done.stdout
    server.assert_nothing_is_left()
    return " ".join(done.stdout.split())


def contents(directory: Path) -> dict[str, bytes]:
    """Return every file below a directory, but for logs, sockets and locks."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
        and not {"logs", "run"} & set(path.relative_to(directory).parts)
        and not path.name.endswith(("lock", "-shm", "-wal"))
    }


# -- at the start ---------------------------------------------------------------------------------


def test_a_read_only_data_directory_is_told_at_the_start(small_disk: Path, tmp_path: Path) -> None:
    data_dir = small_disk / "data"
    data_dir.mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)

    said = refused_start(tmp_path, data_dir=data_dir)

    assert f"{data_dir} cannot be written: Read-only file system" in said
    assert "--data-dir" in said
    assert list(data_dir.iterdir()) == []


def test_a_full_disk_is_told_at_the_start(small_disk: Path, tmp_path: Path) -> None:
    fill(small_disk)

    said = refused_start(tmp_path, status=1, data_dir=small_disk / "data")

    assert "No space left on device" in said
    assert "--data-dir" in said
    assert contents(small_disk).keys() == {"ballast"}


def test_a_data_directory_that_is_a_file_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("mine")

    said = refused_start(tmp_path)

    assert f"{tmp_path / 'data'} cannot be written" in said
    assert (tmp_path / "data").read_text() == "mine"


def test_a_taken_port_is_told_at_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = refused_start(tmp_path, "--port", str(port), status=1)
    assert f"cannot listen on 127.0.0.1:{port}: port {port} is taken" in said
    assert "--port" in said


def test_an_address_of_another_machine_is_told_at_the_start(tmp_path: Path) -> None:
    said = refused_start(tmp_path, "--host", "192.0.2.7", status=1, CLARY_AUTH="on")
    assert "cannot listen on 192.0.2.7" in said


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a server that holds a model, an object and a key, and was stopped."""
    with Server(tmp_path_factory.mktemp("used")) as server:
        server.cli("keys", "create", "--data-dir", str(server.data_dir))
        server.s3.create_bucket(Bucket="kept")
        server.s3.put_object(Bucket="kept", Key="a", Body=b"1")
        server.sagemaker.create_model(ModelName="kept", PrimaryContainer={"Image": IMAGE})
        assert server.stop() == 0
    for path in server.data_dir.rglob("*.sqlite"):  # all of it in the file itself
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return server.data_dir


@pytest.fixture
def stopped(used: Path, tmp_path: Path) -> Server:
    """A server, not yet started, on a copy of that directory."""
    server = Server(tmp_path)
    shutil.copytree(used, server.data_dir, ignore=shutil.ignore_patterns("run"))
    return server


@pytest.mark.parametrize(
    ("file", "damage", "words"),
    [
        ("state.sqlite", b"no database, and never was one. " * 500, "state database"),
        ("state.sqlite", None, "state database"),
        ("objects/*.sqlite", b"no database, and never was one. " * 500, "object"),
        ("objects/*.sqlite", None, "object"),
        ("keys.json", b'{"version": 1, "keys": [{"id": "AKIA', "key file"),
        ("keys.json", b'{"version": 99, "keys": []}', "key file"),
    ],
)
def test_a_damaged_file_is_named_at_the_start_and_left_as_it_is(
    stopped: Server, file: str, damage: bytes | None, words: str
) -> None:
    (path,) = stopped.data_dir.glob(file)
    whole = path.read_bytes()
    # Without other damage: noise in the middle, with the head as it was.
    path.write_bytes(damage or whole[:2048] + os.urandom(len(whole) - 2048))
    before = contents(stopped.data_dir)

    said = refused_start(stopped.directory)

    assert words in said
    assert str(path) in said
    after = contents(stopped.data_dir)
    # A process that found nothing wrong may have begun to use its own database.
    in_use = {name for name in before if name.endswith(".sqlite")}
    in_use -= {str(path.relative_to(stopped.data_dir))}
    assert after.keys() == before.keys()
    assert {n for n in after if after[n] != before[n]} <= in_use

    path.write_bytes(whole)
    with Server(stopped.directory) as server:
        assert server.sagemaker.describe_model(ModelName="kept")["ModelName"] == "kept"
        assert server.s3.get_object(Bucket="kept", Key="a")["Body"].read() == b"1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server\nport = 1", "is no TOML"),
        ('[gateway]\nmax_headers = "many"', "gateway.max_headers"),
        ("[server]\nprot = 1", "prot"),
        ("[sever]\nport = 1", "sever"),
        ('[[runners]]\nmatch = "x"\nrunner = "magic"', "runner"),
    ],
)
def test_a_wrong_settings_file_is_told_at_the_start(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "clary.toml").write_text(text)

    said = refused_start(tmp_path)

    assert words in said
    assert "clary.toml" in said
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["clary.toml"]


# -- other addresses than loopback ----------------------------------------------------------------


def test_an_open_server_does_not_listen_to_everybody(tmp_path: Path) -> None:
    said = refused_start(tmp_path, "--host", "0.0.0.0")
    for word in ("0.0.0.0", "CLARY_AUTH=on", "clary keys create", "--insecure"):
        assert word in said
    assert not (tmp_path / "data").exists()


@contextlib.contextmanager
def listening_to_everybody(tmp_path: Path, *arguments: str, **environment: str) -> Iterator[Server]:
    """A server on all addresses of this machine."""
    server = Server(tmp_path, **environment)
    tmp_path.mkdir(exist_ok=True)
    with server.output.open("wb") as output:
        server.process = subprocess.Popen(
            [
                str(CLARY),
                "up",
                *("--host", "0.0.0.0"),
                *("--port", str(server.port)),
                *("--data-dir", str(server.data_dir)),
                *arguments,
            ],
            env=server.environ(),
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(lambda: server.health() == 200, timeout_s=20, what="health")
        yield server
    finally:
        server.close()


def test_who_insists_may_listen_to_everybody_without_authentication(tmp_path: Path) -> None:
    with listening_to_everybody(tmp_path, "--insecure") as server:
        assert server.sagemaker.list_models()["Models"] == []


def test_with_authentication_everybody_may_come_and_must_sign(tmp_path: Path) -> None:
    with listening_to_everybody(tmp_path, CLARY_AUTH="on") as server:
        request = urllib.request.Request(
            server.url, b"{}", {"X-Amz-Target": "SageMaker.ListModels"}
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        with refused.value as error:
            assert error.code == 403
            assert "Token" in json.loads(error.read())["__type"]


# -- while it runs --------------------------------------------------------------------------------


def models_until_refused(server: Server) -> tuple[int, dict[str, Any]]:
    """Create models until one is refused, for the database may have some room of its own.

    Returns:
        How many were made, and the refusal.
    """
    for number in range(100):
        try:
            server.sagemaker.create_model(
                ModelName=f"new-{number}",
                PrimaryContainer={"Image": IMAGE, "Environment": {"PAD": "x" * 1000}},
            )
        except ClientError as error:
            return number, error.response
    raise AssertionError("100 models were made on a full disk")


def test_a_disk_that_fills_up_fails_the_calls_that_need_it_and_no_other(small_disk: Path) -> None:
    with Server(small_disk) as server:
        server.deploy("echo", {"code/inference.py": ECHO})
        server.s3.put_object(Bucket="models", Key="kept", Body=b"1" * 10_000)
        server.s3.put_object(
            Bucket="models", Key="large", Body=archive({"weights": os.urandom(3 * MEBIBYTE)})
        )
        server.sagemaker.create_model(ModelName="kept", PrimaryContainer={"Image": IMAGE})
        ballast = fill(small_disk)

        # The first call of all comes when there is no byte left.
        assert server.invoke("echo", b"first") == b"first"
        # What writes says that there is no room, and changes nothing.
        for body in (b"2" * 20_000, b"2" * 2 * MEBIBYTE):
            with pytest.raises(ClientError) as refused:
                server.s3.put_object(Bucket="models", Key="kept", Body=body)
            response = refused.value.response
            assert response["ResponseMetadata"]["HTTPStatusCode"] in (500, 503, 507)
            assert "space" in response["Error"]["Message"]
        made, response = models_until_refused(server)
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 503
        assert "disk is full). Nothing was changed." in response["Error"]["Message"]

        # What reads, and what only computes, works on.
        assert server.invoke("echo", b"still") == b"still"
        assert server.s3.get_object(Bucket="models", Key="kept")["Body"].read() == b"1" * 10_000
        models = server.sagemaker.list_models(MaxResults=100)["Models"]
        assert len(models) == 2 + made

        # Processes that die come back, and take over what is there.
        for role in ("clary-gateway", "clary-objects", "clary-control"):
            (killed,) = server.pids(role)
            os.kill(killed, signal.SIGKILL)
            wait_for(lambda: server.health() == 200, what="health")
            wait_for(lambda: server.pids(role) not in ([], [killed]), what=role)  # noqa: B023
            assert server.invoke("echo", b"still") == b"still"
        assert len(server.sagemaker.list_models(MaxResults=100)["Models"]) == len(models)

        # Some room, but not for unpacking.
        os.truncate(ballast, max(ballast.stat().st_size - 2 * MEBIBYTE, 0))
        server.create_endpoint("unpacked", model_data_url="s3://models/large")
        reason = server.wait_for_status("unpacked", "Failed")["FailureReason"]
        assert "ran out of disk space" in reason
        assert len(list((server.data_dir / "artifacts").iterdir())) == 1

        # Room again: everything works, and nothing is left of what failed.
        ballast.unlink()
        server.s3.put_object(Bucket="models", Key="kept", Body=b"3")
        assert server.s3.get_object(Bucket="models", Key="kept")["Body"].read() == b"3"
        server.deploy("again", {"code/inference.py": ECHO})
        assert server.invoke("again", b"x") == b"x"
        keys = [o["Key"] for o in server.s3.list_objects_v2(Bucket="models")["Contents"]]
        assert keys == ["again/model.tar.gz", "echo/model.tar.gz", "kept", "large"]
