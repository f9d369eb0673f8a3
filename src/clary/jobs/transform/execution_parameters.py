"""Asks a container how it wants its requests (container.md 9)."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from clary.messages import parse_address
from clary.router.table import Endpoint, PipelineInstance

TIMEOUT_S = 2.0
MAX_BYTES = 64 * 1024


async def ask_execution_parameters(endpoint: Endpoint | None) -> Mapping[str, Any]:
    """Return what the first container offers; nothing where it offers nothing.

    Handler functions have no such page: only a server of the user's own is asked.
    """
    for variant in endpoint.variants if endpoint is not None else ():
        for instance in variant.instances:
            workers = (
                instance.containers[0].workers
                if isinstance(instance, PipelineInstance)
                else instance.workers
            )
            for worker in workers:
                scheme, host, port = parse_address(worker.address)
                if scheme == "http" and port is not None:
                    return await _ask(host, port)
    return {}


async def _ask(host: str, port: int) -> Mapping[str, Any]:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                head = f"GET /execution-parameters HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n"
                writer.write(head.encode())
                answer = await reader.read(MAX_BYTES)
                while more := await reader.read(MAX_BYTES):
                    answer += more
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return {}
    head_bytes, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head_bytes.split(b"\r\n")[0] + b" ":
        return {}
    try:
        offered = json.loads(body)
    except ValueError:
        return {}
    return offered if isinstance(offered, dict) else {}
