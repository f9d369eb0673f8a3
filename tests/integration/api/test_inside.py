"""Clary's own pages, asked as ASGI: real store, real files."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from builders import NAMESPACE, a_model, an_endpoint_config
from clary.api.app import build_api
from clary.api.inside import follow_logs
from clary.api.operations import Backend
from clary.clock import SystemClock
from clary.logs.files import LogFile, find_log_files
from clary.logs.groups import LogGroups
from clary.metrics.families import Family, gauge
from clary.metrics.series import MetricStore
from clary.resources.quotas import Quotas
from clary.resources.tracking_alarms import AlarmPeriods
from clary.settings import LogSettings, MetricSettings
from clary.store import Store
from clary.store.scaling_alarms import PolicyAlarms

Ask = Callable[..., tuple[int, bytes]]


async def observe(name: str) -> list[Mapping[str, Any]]:
    return [{"id": "i-1", "variant": "AllTraffic", "state": "healthy", "endpoint": name}]


async def collect() -> list[Family]:
    return [Family(gauge("clary_things", "Things."), [((), 3.0)])]


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Ask]:
    """A function that asks for a path and returns status and body; endpoint ``digits`` exists."""
    store = Store.open(tmp_path / "state.sqlite", NAMESPACE, SystemClock())
    backend = Backend(
        store=store,
        logs=LogGroups(store.logs, tmp_path / "logs", LogSettings(), SystemClock()),
        namespace=NAMESPACE,
        quotas=Quotas(total=9),
        clock=SystemClock(),
        metrics=MetricStore(store.database, SystemClock(), MetricSettings()),
        scalable={},
        policy_alarms=PolicyAlarms(store.alarms, NAMESPACE, AlarmPeriods()),
        find_key=lambda _id: None,
    )
    api = build_api(
        backend,
        log_root=tmp_path / "logs",
        observe_instances=observe,
        read_counters=lambda _name: {"AllTraffic": {"invocations": 7}},
        observe_models=lambda name: [{"model": "a.tar.gz", "endpoint": name}],
        collect_metrics=collect,
    )

    async def get(path: str, query: Mapping[str, str]) -> tuple[int, bytes]:
        sent: list[dict[str, Any]] = []
        has_asked = False

        async def receive() -> dict[str, Any]:
            nonlocal has_asked
            if has_asked:
                await asyncio.Event().wait()  # it stays connected
            has_asked = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": urlencode(query).encode(),
            "headers": [],
        }
        await api(scope, receive, send)
        return sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:])

    with asyncio.Runner() as runner:

        async def fill() -> None:
            await store.models.create(a_model())
            await store.endpoint_configs.create(an_endpoint_config())
            await store.endpoints.create("digits", "digits", quotas=Quotas(total=9))

        runner.run(fill())
        yield lambda path, **query: runner.run(get(path, query))
    store.close()


def write(root: Path, instance: str, text: str) -> Path:
    path = root / "digits" / "AllTraffic" / f"{instance}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_an_endpoint_is_shown_with_its_instances(ask: Ask) -> None:
    status, body = ask("/_clary/endpoints/digits")

    assert status == 200
    assert json.loads(body) == {
        "name": "digits",
        "arn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint/digits",
        "status": "Creating",
        "generation": 1,
        "failure_reason": None,
        "config": "digits",
        "instances": [
            {"id": "i-1", "variant": "AllTraffic", "state": "healthy", "endpoint": "digits"}
        ],
        "counters": {"AllTraffic": {"invocations": 7}},
    }


@pytest.mark.parametrize(
    ("path", "query", "status", "text"),
    [
        ("/_clary/endpoints/nobody", {}, 404, "Could not find endpoint"),
        ("/_clary/logs/nobody", {}, 404, "no endpoint 'nobody'"),
        ("/_clary/logs/digits", {"lines": "-1"}, 400, "lines must be a number"),
        ("/_clary/logs/digits", {"lines": "x"}, 400, "lines must be a number"),
        ("/_clary/logs/digits", {"variant": "../.."}, 400, "is no name"),
        ("/_clary/logs/..%2f..", {}, 400, "is no name"),
        ("/_clary/nothing", {}, 404, "There is no /_clary/nothing"),
        ("/_clary", {}, 404, "There is no /_clary"),
    ],
)
def test_what_is_not_there_is_refused_in_json(
    ask: Ask, path: str, query: dict[str, str], status: int, text: str
) -> None:
    found, body = ask(path, **query)

    assert found == status
    assert text in json.loads(body)["message"]


def test_the_log_of_one_instance_is_shown_as_it_is(ask: Ask, tmp_path: Path) -> None:
    write(tmp_path / "logs", "i-1", "one\ntwo\nthree\nunfinished")

    assert ask("/_clary/logs/digits") == (200, b"one\ntwo\nthree\nunfinished\n")
    assert ask("/_clary/logs/digits", lines="2") == (200, b"three\nunfinished\n")
    assert ask("/_clary/logs/digits", lines="0") == (200, b"")


def test_lines_of_several_instances_say_whose_they_are(ask: Ask, tmp_path: Path) -> None:
    write(tmp_path / "logs", "i-1", "one\n")
    write(tmp_path / "logs", "i-2", "two\n")

    status, body = ask("/_clary/logs/digits")
    assert status == 200
    assert sorted(body.splitlines()) == [b"i-1  one", b"i-2  two"]
    assert ask("/_clary/logs/digits", instance="i-2") == (200, b"two\n")
    assert ask("/_clary/logs/digits", variant="other") == (200, b"")


def test_logs_are_followed_over_new_lines_new_instances_and_truncation(tmp_path: Path) -> None:
    first = write(tmp_path, "i-1", "old\none\n")

    def find() -> list[LogFile]:
        return find_log_files(tmp_path, "digits")

    async def until(pieces: AsyncIterator[bytes], wanted: bytes) -> None:
        seen = b""
        async with asyncio.timeout(10):
            while seen != wanted:
                seen += await anext(pieces)
                assert wanted.startswith(seen)

    async def story() -> None:
        async with aclosing(follow_logs(find, 1)) as pieces:  # type: ignore[type-var]
            await until(pieces, b"one\n")
            with first.open("a") as file:
                file.write("two\nthr")
            await until(pieces, b"two\n")
            with first.open("a") as file:
                file.write("ee\n")
            await until(pieces, b"three\n")
            write(tmp_path, "i-2", "hello\n")
            await until(pieces, b"i-2  hello\n")
            first.write_text("cut\n")
            await until(pieces, b"i-1  cut\n")

    asyncio.run(story())


def test_metrics_are_text(ask: Ask) -> None:
    assert ask("/metrics") == (
        200,
        b"# HELP clary_things Things.\n# TYPE clary_things gauge\nclary_things 3.0\n",
    )
