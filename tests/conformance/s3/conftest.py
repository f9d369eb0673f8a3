"""An S3 to send requests to, and clients for it."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from objects_server import ObjectsServer
from s3_clients import s3_client


@pytest.fixture(scope="session")
def s3_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the S3 under test listens. The rest of these tests knows nothing else about it."""
    with ObjectsServer(tmp_path_factory.mktemp("objects")) as server:
        yield server.url


@pytest.fixture(scope="session")
def s3(s3_url: str) -> Iterator[Any]:
    """A stock client."""
    client = s3_client(s3_url)
    yield client
    client.close()


@pytest.fixture
def bucket(s3: Any) -> str:
    """A new, empty bucket."""
    name = f"b-{uuid.uuid4().hex[:16]}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def big_file(tmp_path: Path) -> Path:
    """A file of 12 MiB without repetitions: the SDK uploads it in parts."""
    path = tmp_path / "big.bin"
    path.write_bytes(bytes(range(256)) * 4096 + b"x" * (11 * 1024**2))
    return path
