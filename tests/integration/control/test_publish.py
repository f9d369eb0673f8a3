"""Routes on their way to those who follow them; when nobody can send to an instance any more."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import clary.control.publish
from clary.control.publish import Publisher
from clary.messages import LineDecoder, encode_line
from clary.presence import FOLLOWERS
from clary.resources.routing_table import (
    ContainerRoute,
    EndpointRoute,
    InstanceRoute,
    VariantRoute,
)

PRESENT = """
import sys
from pathlib import Path
from clary.presence import show_presence

show_presence(Path(sys.argv[1]), sys.argv[2])
print("here", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _is_impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clary.control.publish, "ACK_WAIT_S", 0.05)


def a_route(*instance_ids: str, workers: int = 2) -> EndpointRoute:
    instances = tuple(
        InstanceRoute(
            id=id,
            containers=(
                ContainerRoute(name="c", workers=tuple(f"unix:/{id}{n}" for n in range(workers))),
            ),
        )
        for id in instance_ids
    )
    return EndpointRoute(
        name="e", variants=(VariantRoute(name="v", weight=1.0, instances=instances),)
    )


class Follower:
    """A process that follows, as control sees it. Acknowledges when it is told to."""

    def __init__(self, directory: Path, name: str) -> None:
        self._socket = directory / "publish.sock"
        self._name = name
        self._process = subprocess.Popen(
            [sys.executable, "-c", PRESENT, str(directory / FOLLOWERS), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"here\n"
        self._decoder = LineDecoder()
        self._writer: asyncio.StreamWriter | None = None
        self.version = -1

    async def connect(self) -> None:
        self._reader, self._writer = await asyncio.open_unix_connection(str(self._socket))
        self.say(type="follower", name=self._name)
        await self.hear("snapshot")

    async def hear(self, kind: str) -> None:
        """Read until something of a kind has come."""
        while True:
            for message in self._decoder.feed(await self._reader.read(1 << 16)):
                self.version = message["version"]
                if message["type"] == kind:
                    return

    def say(self, **message: Any) -> None:
        assert self._writer is not None
        self._writer.write(encode_line(message))

    def acknowledge(self, *draining: str) -> None:
        self.say(type="ack", version=self.version, draining=draining)

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()
        if self._writer is not None:
            self._writer.close()


class Site:
    """The publisher, and who follows it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.publisher = Publisher(directory / "publish.sock", life="1", keys=())
        self.followers: list[Follower] = []

    def follower(self, name: str = "gateway-0") -> Follower:
        self.followers.append(Follower(self.directory, name))
        return self.followers[-1]

    async def until_nobody_can_send_to(self, instance_id: str) -> None:
        async with asyncio.timeout(10):
            while self.publisher.is_draining(instance_id):  # noqa: ASYNC110 - looks at processes
                await asyncio.sleep(0.005)


Test = Callable[[Site], Coroutine[Any, Any, None]]


def with_site(test: Test) -> Callable[[Path], None]:
    def run(tmp_path: Path) -> None:
        asyncio.run(in_site(test, tmp_path))

    return run


async def in_site(test: Test, directory: Path) -> None:
    site = Site(directory)
    try:
        await test(site)
    finally:
        for follower in site.followers:
            follower.kill()
        await site.publisher.close()


@with_site
async def test_a_new_control_process_stops_nothing_before_it_has_heard_of_all(site: Site) -> None:
    one, other = site.follower("gateway-0"), site.follower("jobs")
    publisher = site.publisher
    await publisher.publish("e", a_route("a"))
    assert publisher.is_draining("b")  # nobody can have been told
    await publisher.start()
    await one.connect()
    one.acknowledge()
    assert publisher.is_draining("b")
    await other.connect()
    assert publisher.is_draining("b")
    other.acknowledge("b")
    await site.until_nobody_can_send_to("c")
    assert publisher.is_draining("b")
    other.say(type="draining", instances=[])
    await site.until_nobody_can_send_to("b")


@with_site
async def test_one_that_was_killed_is_not_waited_for(site: Site) -> None:
    one = site.follower()
    await site.publisher.start()
    assert site.publisher.is_draining("b")
    one.kill()
    assert not site.publisher.is_draining("b")


@with_site
async def test_without_followers_there_is_nobody_to_wait_for(site: Site) -> None:
    assert not site.publisher.is_draining("b")


@with_site
async def test_one_that_is_slow_may_still_send_to_what_has_left(site: Site) -> None:
    publisher = site.publisher
    heard = asyncio.Event()
    publisher.on_needs = lambda report: heard.set()
    slow = site.follower()
    await publisher.start()
    await publisher.publish("e", a_route("a", "b"))
    await slow.connect()
    slow.acknowledge()
    await site.until_nobody_can_send_to("c")

    await publisher.publish("e", a_route("a"))  # waits in vain

    assert publisher.is_draining("b")
    slow.acknowledge()  # of what it knew before
    slow.say(type="needs")
    await asyncio.wait_for(heard.wait(), 10)
    assert publisher.is_draining("b")
    assert not publisher.is_draining("c")
    await slow.hear("route")
    slow.acknowledge()
    await site.until_nobody_can_send_to("b")


@with_site
async def test_a_worker_that_has_left_is_waited_for_like_an_instance(site: Site) -> None:
    follower = site.follower()
    await site.publisher.start()
    await site.publisher.publish("e", a_route("a", "b"))
    await follower.connect()
    follower.acknowledge()
    await site.until_nobody_can_send_to("a")

    await site.publisher.publish("e", a_route("a", "b", workers=1))

    assert site.publisher.is_draining("a")
    await follower.hear("route")
    follower.acknowledge()
    await site.until_nobody_can_send_to("a")


@pytest.mark.parametrize(
    ("act", "is_free"),
    [
        ("answers", True),
        ("refuses", False),
        ("is slow", False),
        ("dies", True),
        ("is not there yet", False),
    ],
)
def test_a_model_is_unloaded_only_when_all_have_given_it_up(
    tmp_path: Path, act: str, is_free: bool
) -> None:
    async def answer(one: Follower) -> None:
        await one.hear("release")
        if act in ("answers", "refuses"):
            one.say(type="released", instance="a", model="m", ok=act == "answers")
            one.acknowledge()
        elif act == "dies":
            one.kill()

    async def test(site: Site) -> None:
        one = site.follower()
        await site.publisher.publish_model("a", "m", {"address": "unix:/m"})
        await site.publisher.start()
        if act == "is not there yet":
            assert await site.publisher.release_model("a", "m") is is_free
        else:
            await one.connect()
            one.acknowledge()
            await site.until_nobody_can_send_to("a")
            answering = asyncio.create_task(answer(one))
            assert await site.publisher.release_model("a", "m") is is_free
            await answering
        assert ("m" in site.publisher.models("a")) is not is_free

    asyncio.run(in_site(test, tmp_path))
