"""The models of multi-model endpoints, as a gateway's router finds them."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from clary.errors import (
    InvalidRequest,
    InvocationError,
    ModelNotLoaded,
    ModelNotReady,
)
from clary.metrics.registry import Registry
from clary.resources.routing_table import (
    ContainerRoute,
    EndpointRoute,
    InstanceRoute,
    VariantRoute,
)
from clary.router.invocation import Invocation
from clary.router.router import Router
from clary.settings import RouterSettings


class Call(Invocation):
    """An invocation that remembers how it ended."""

    __slots__ = ("ending",)

    def __init__(self, model: str | None, time_left_s: float = 60) -> None:
        super().__init__("many", b"", b"x", time.monotonic() + time_left_s)
        self.target_model = model
        self.ending: list[Any] = []

    def on_reply(self, status: int, meta: bytes, body: bytes, more: bool) -> None:
        self.ending.append(status)

    def on_failure(self, error: InvocationError) -> None:
        self.ending.append(error)


class Gateway:
    """A router with one multi-model endpoint, and what it said to control."""

    def __init__(self, instances: tuple[str, ...] = ("i-1",)) -> None:
        self.router = Router(RouterSettings(), Registry())
        self.said: list[dict[str, Any]] = []
        self.router.models.say = lambda message: self.said.append(dict(message))
        route = EndpointRoute(
            name="many",
            variants=(
                VariantRoute(
                    name="AllTraffic",
                    weight=1.0,
                    instances=tuple(
                        InstanceRoute(
                            id=name,
                            containers=(
                                ContainerRoute(name="primary", workers=(f"models:{name}",)),
                            ),
                        )
                        for name in instances
                    ),
                ),
            ),
        )
        self.router.apply_snapshot([route])

    def submit(self, call: Call) -> Call:
        self.router.submit(call)
        return call

    def tell(self, kind: str, model: str, **more: Any) -> None:
        self.router.models.apply({"type": kind, "instance": "i-1", "model": model, **more})

    def asked(self) -> list[tuple[str, str]]:
        return [(m["instance"], m["model"]) for m in self.said if m["type"] == "load"]


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 10))


def test_control_is_asked_once_for_a_model_that_many_calls_want() -> None:
    async def story() -> None:
        gateway = Gateway()
        for _ in range(3):
            gateway.submit(Call("a"))
        gateway.submit(Call("b"))
        assert gateway.asked() == [("i-1", "a"), ("i-1", "b")]

    run(story)


def test_a_refusal_reaches_all_that_wait_for_the_model_and_nobody_else() -> None:
    async def story() -> None:
        gateway = Gateway()
        first, second, other = (gateway.submit(Call(name)) for name in "aab")
        gateway.tell("model_refused", "a", error={"kind": "missing", "message": "no a"})
        for call in (first, second):
            (error,) = call.ending
            assert isinstance(error, ModelNotLoaded)
            assert error.is_missing
        assert other.ending == []
        gateway.submit(Call("a"))
        assert gateway.asked() == [("i-1", "a"), ("i-1", "b"), ("i-1", "a")]

    run(story)


def test_a_call_that_has_waited_as_long_as_it_may_is_told_that_the_model_is_not_ready() -> None:
    async def story() -> None:
        gateway = Gateway()
        gateway.router.start()
        call = gateway.submit(Call("a", time_left_s=0.05))
        while not call.ending:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)
        assert isinstance(call.ending[0], ModelNotReady)
        gateway.submit(Call("a"))
        assert gateway.asked() == [("i-1", "a")]  # the load goes on
        gateway.router.close()

    run(story)


def test_control_is_asked_again_when_it_comes_back() -> None:
    async def story() -> None:
        gateway = Gateway()
        gateway.submit(Call("a"))
        gateway.router.models.apply_snapshot({})
        assert gateway.asked() == [("i-1", "a")] * 2

    run(story)


def test_a_model_that_a_call_waits_for_is_not_released() -> None:
    async def story() -> None:
        gateway = Gateway()
        gateway.submit(Call("a"))
        gateway.tell("release", "a")
        gateway.tell("release", "b")
        answers = {m["model"]: m["ok"] for m in gateway.said if m["type"] == "released"}
        assert answers == {"a": False, "b": True}

    run(story)


def test_models_are_spread_over_instances_and_stay_where_they_are() -> None:
    async def story() -> None:
        gateway = Gateway(("i-1", "i-2"))
        for name in ("a", "b", "a", "b"):
            gateway.submit(Call(name))
        assert gateway.asked() == [("i-1", "a"), ("i-2", "b")]

    run(story)


def test_many_first_calls_load_a_model_on_one_instance_only() -> None:
    async def story() -> None:
        gateway = Gateway(("i-1", "i-2"))
        for _ in range(40):
            gateway.submit(Call("a"))
        assert gateway.asked() == [("i-1", "a")]

    run(story)


def test_a_busy_model_gets_a_copy_on_another_instance() -> None:
    async def story() -> None:
        gateway = Gateway(("i-1", "i-2"))
        # A server that takes calls, and answers none.
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        place = {"address": f"http:127.0.0.1:{port}", "path": "/models/a/invoke", "keep": True}
        gateway.tell("model", "a", place=place)
        for _ in range(16):
            gateway.submit(Call("a"))
        assert gateway.asked() == []
        for _ in range(3):
            gateway.submit(Call("a"))
        assert gateway.asked() == [("i-2", "a")]
        gateway.router.close()
        server.close()

    run(story)


def test_a_call_that_names_no_model_is_refused() -> None:
    async def story() -> None:
        with pytest.raises(InvalidRequest, match="TargetModel parameter is required"):
            Gateway().submit(Call(None))

    run(story)
