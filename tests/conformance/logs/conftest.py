import time
import uuid
from typing import Any

import pytest

from server import Server


@pytest.fixture
def logs(server: Server) -> Any:
    return server.client("logs")


@pytest.fixture
def group(logs: Any) -> str:
    """A log group of this test's own."""
    name = f"/tests/{uuid.uuid4().hex[:12]}"
    logs.create_log_group(logGroupName=name)
    return name


@pytest.fixture
def now_ms() -> int:
    return int(time.time() * 1000)
