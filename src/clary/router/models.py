"""The models of multi-model endpoints, as a gateway knows them.

To the router an instance of a multi-model endpoint is one worker with the address ``models:<id>``;
its channel is a ``ModelsChannel``. That hands each invocation to the channel of its model, and asks
control to load a model that is not there, once, whoever else may ask. What control tells of models
comes from the subscriber by way of ``model_table.py``. Warm calls need neither control nor host.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from clary.errors import InvocationError, ModelNotLoaded, ModelNotReady, Overloaded, WorkerLost
from clary.messages import parse_address
from clary.reading import ReadBuffers
from clary.router.admission import admit
from clary.router.channel import FrameChannel
from clary.router.http_channel import HttpChannel
from clary.router.invocation import Channel, Invocation, Resubmit
from clary.router.served_call import ServedCall
from clary.router.table import Instance, Worker

COPY_FROM_OPEN = 16
"""A model with so many open calls on each instance that has it gets loaded on one more."""

Say = Callable[[Mapping[str, Any]], None]


class ModelAddress:
    """A loaded model on one instance."""

    __slots__ = ("address", "calls", "channel", "is_spent", "keep", "path", "used_at")

    def __init__(self, place: Mapping[str, Any], channel: FrameChannel | HttpChannel) -> None:
        self.address: str = place["address"]
        self.path: str = place["path"]
        self.keep: bool = place["keep"]
        self.channel = channel
        self.used_at = time.monotonic()
        self.calls = 0
        """Since control was told last."""
        self.is_spent = False
        """Whether it was called, and control has not heard yet that it may go."""


class ModelsChannel:
    """Carries invocations to the models of one instance; the ``Channel`` of ``models:``."""

    def __init__(
        self,
        instance_id: str,
        *,
        on_ready: Callable[[], None],
        resubmit: Resubmit,
        say: Say,
        max_queue: int,
        buffers: ReadBuffers,
    ) -> None:
        self.instance_id = instance_id
        self.is_ready = True
        self.outstanding = 0
        """Open invocations of all models, and those that wait for one, as last counted."""
        # Handler times and queues are those of single models.
        self.mean_handler_s = 0.0
        self.progress_at = 0.0
        self.concurrency = 0
        self.life = 1  # sessions live in models, and have no place here
        self._on_ready = on_ready
        self._resubmit = resubmit
        self._say = say
        self._max_queue = max_queue
        self._buffers = buffers
        self._models: dict[str, ModelAddress] = {}
        self._waiting: dict[str, deque[Invocation]] = {}
        """Invocations of models that are not loaded. A key is there while control is asked."""
        self._again: set[Invocation] = set()
        """Invocations whose model was loaded anew for them: they are not tried a third time."""
        self._retired: list[Channel] = []
        self._servers: dict[str, HttpChannel] = {}

    def _count(self) -> None:
        """Bring ``outstanding`` up to date: not for each call, for there may be many models."""
        open_calls = sum(c.outstanding for c in self._all_channels())
        self.outstanding = open_calls + sum(map(len, self._waiting.values()))

    def start(self) -> None:
        """Nothing to do before the first invocation."""

    # From control -------------------------------------------------------------------------

    def found(self, name: str, place: Mapping[str, Any]) -> None:
        """A model is loaded."""
        address = place["address"]
        if parse_address(address)[0] == "http":
            server = self._servers.get(address)
            if server is None:
                server = HttpChannel(
                    address, on_ready=self._on_ready, resubmit=self._lost_before_start
                )
                self._servers[address] = server
            self._models[name] = ModelAddress(place, server)
            self._drain(name)
            return
        channel = FrameChannel(
            address,
            on_ready=lambda: self._drain(name),
            resubmit=self._lost_before_start,
            buffers=self._buffers,
        )
        self._models[name] = ModelAddress(place, channel)
        channel.start()

    def lost(self, name: str) -> None:
        """A model is not loaded any more."""
        model = self._models.pop(name, None)
        if model is None:
            return
        if isinstance(model.channel, FrameChannel):
            model.channel.close()
            self._retired.append(model.channel)
        elif all(other.channel is not model.channel for other in self._models.values()):
            self._servers.pop(model.address, None)
            self._retired.append(model.channel)
        if name in self._waiting:
            self._ask(name)  # it ended before they were sent

    def refused(self, name: str, error: Mapping[str, Any]) -> None:
        """A model cannot be loaded."""
        is_missing = error["kind"] == "missing"
        for invocation in self._waiting.pop(name, ()):
            invocation.on_failure(ModelNotLoaded(error["message"], is_missing=is_missing))

    def ask_again(self) -> None:
        """Control is back: what it was asked before, it may have forgotten."""
        for name in self._waiting:
            if name not in self._models:
                self._ask(name)

    def is_busy(self, name: str) -> bool:
        """Whether a model has an open call."""
        model = self._models.get(name)
        return bool(self._waiting.get(name)) or (model is not None and self.open_calls(name) > 0)

    def open_calls(self, name: str) -> int:
        """Return how many calls of a model are open here."""
        model = self._models.get(name)
        if model is None:
            return len(self._waiting.get(name, ()))
        if isinstance(model.channel, FrameChannel):
            return model.channel.outstanding
        # All models of a server share its channel.
        return model.channel.open_with(model.path)

    def is_loaded(self, name: str) -> bool:
        """Whether a model takes calls at once."""
        model = self._models.get(name)
        return model is not None and model.channel.is_ready

    def has(self, name: str) -> bool:
        """Whether a model is loaded, or on its way."""
        return name in self._models or name in self._waiting

    @property
    def load(self) -> tuple[int, int]:
        """How much the instance has to do: models that it has or gets, then open calls."""
        return len(self._models.keys() | self._waiting.keys()), self.outstanding

    def preload(self, name: str) -> None:
        """Have a model loaded, though no call waits for it here."""
        if not self.has(name):
            self._waiting[name] = deque()
            self._ask(name)

    def usage(self) -> Iterable[tuple[str, str, float, int]]:
        """Give and reset what was used since the last time."""
        for name, model in self._models.items():
            if model.calls:
                yield self.instance_id, name, model.used_at, model.calls
                model.calls = 0

    def _ask(self, name: str) -> None:
        # What was used when decides what has to go for it.
        self._tell_usage()
        self._say({"type": "load", "instance": self.instance_id, "model": name})

    def _tell_usage(self) -> None:
        used = list(self.usage())
        if used:
            self._say({"type": "used", "models": used})

    # Channel ------------------------------------------------------------------------------

    def submit(self, invocation: Invocation) -> None:
        name = invocation.target_model
        if name is None:  # the router refuses it, but for copies to a shadow variant
            invocation.on_failure(ModelNotLoaded("the request names no model", is_missing=True))
            return
        model = self._models.get(name)
        if model is not None and model.channel.is_ready:
            self._send(model, invocation)
        else:
            self._wait(name, invocation)

    def _send(self, model: ModelAddress, invocation: Invocation) -> None:
        channel = model.channel
        if channel.outstanding > 4:
            try:
                admit(channel, invocation.deadline - time.monotonic(), self._max_queue)
            except Overloaded as error:
                invocation.on_failure(error)
                return
        model.used_at = time.monotonic()
        model.calls += 1
        model.is_spent = True
        if isinstance(channel, FrameChannel):
            invocation.channel = channel
            channel.submit(invocation)
        else:
            is_again = invocation in self._again
            self._again.discard(invocation)
            call = ServedCall(self, invocation, model.path, is_again=is_again)
            invocation.channel = call
            call.channel = channel
            channel.submit(call)

    def _wait(self, name: str, invocation: Invocation) -> None:
        waiting = self._waiting.get(name)
        if waiting is not None and len(waiting) >= self._max_queue:
            invocation.on_failure(
                Overloaded(f"{len(waiting)} requests wait for model {name}. Try again later.")
            )
            return
        invocation.channel = self
        if waiting is not None:
            waiting.append(invocation)
            return
        self._waiting[name] = deque([invocation])
        if name not in self._models:
            self._ask(name)

    def reload(self, name: str, invocation: Invocation, *, is_full: bool) -> None:
        """Load a model that its server has dropped by itself, or has no memory for; call it again.

        Args:
            name: Of the model.
            invocation: What the server did not take.
            is_full: Whether another model has to go first.
        """
        self._again.add(invocation)
        if name in self._models:
            message = {"type": "lost", "instance": self.instance_id, "model": name}
            self._say({**message, "is_full": is_full})
            self.lost(name)
        self._wait(name, invocation)

    def _drain(self, name: str) -> None:
        model = self._models.get(name)
        if model is None:
            return
        for invocation in self._waiting.pop(name, ()):
            self._send(model, invocation)

    def _lost_before_start(self, invocation: Invocation, error: InvocationError) -> None:
        if isinstance(invocation, ServedCall):
            invocation = invocation.original
        self._resubmit(invocation, error)

    def send_body(self, invocation: Invocation, data: bytes, more: bool) -> bool:
        raise AssertionError("the router streams no body to a model of a multi-model endpoint")

    def cancel(self, invocation: Invocation) -> None:
        for waiting in self._waiting.values():
            if invocation in waiting:
                waiting.remove(invocation)
                return

    def credit(self, invocation: Invocation, count: int) -> None:
        """Nothing of a reply comes while an invocation waits."""

    def expire(self, now: float) -> None:
        for name, waiting in list(self._waiting.items()):
            late = [invocation for invocation in waiting if invocation.deadline <= now]
            for invocation in late:
                waiting.remove(invocation)
                invocation.on_failure(ModelNotReady(f"Model {name} is still being loaded."))
        for channel in self._all_channels():
            channel.expire(now)
        self._retired = [channel for channel in self._retired if channel.outstanding]
        for name, model in self._models.items():
            if not model.keep and model.is_spent and not self.is_busy(name):
                model.is_spent = False
                self._tell_usage()
                self._say({"type": "idle", "instance": self.instance_id, "model": name})
        self._count()

    def close(self) -> None:
        self.is_ready = False
        for model in self._models.values():
            model.channel.close()
        error = WorkerLost("The instance of the model was stopped.")
        waiting, self._waiting = self._waiting, {}
        for invocations in waiting.values():
            for invocation in invocations:
                invocation.channel = None
                self._resubmit(invocation, error)
        self._count()

    def _all_channels(self) -> list[Channel]:
        frames = [m.channel for m in self._models.values() if isinstance(m.channel, FrameChannel)]
        return [*frames, *self._servers.values(), *self._retired]


def choose_holder(instances: Sequence[Instance], name: str) -> Instance | None:
    """Choose the instance for a call of a model: one that has it, if there is any.

    Among several that have it, the one with the fewest open calls of it; where none has, the one
    with the fewest models. A model that is busy everywhere is loaded on one more instance; this
    call does not wait for that.
    """
    usable = [(i, c) for i in instances for c in map(_models_channel, i.workers) if c is not None]
    holders = [(i, c) for i, c in usable if c.is_loaded(name)]
    if not holders:
        on_the_way = [(i, c) for i, c in usable if c.has(name)]
        chosen = min(on_the_way or usable, key=lambda pair: pair[1].load, default=None)
        return None if chosen is None else chosen[0]
    instance, channel = min(holders, key=lambda pair: pair[1].open_calls(name))
    if channel.open_calls(name) >= COPY_FROM_OPEN and not any(
        c.has(name) and not c.is_loaded(name) for _, c in usable
    ):
        others = [c for _, c in usable if not c.has(name)]
        if others:
            min(others, key=lambda other: other.load).preload(name)
    return instance


def _models_channel(worker: Worker) -> ModelsChannel | None:
    channel = worker.channel
    return channel if isinstance(channel, ModelsChannel) and channel.is_ready else None
