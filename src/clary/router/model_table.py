"""What control has told of the models of multi-model endpoints, for all instances.

Kept whole, also for instances that no route names yet, and handed to the channels of the instances
(``models.py``) as it comes.
"""

from collections.abc import Callable, Mapping
from typing import Any

from clary.reading import ReadBuffers
from clary.router.invocation import Resubmit
from clary.router.models import ModelsChannel, Say


class ModelTable:
    """All models that control has told of, and what waits for one."""

    def __init__(self) -> None:
        self._places: dict[str, dict[str, Mapping[str, Any]]] = {}
        self._channels: dict[str, ModelsChannel] = {}
        self.say: Say = lambda message: None
        """Tells control something; what cannot be told now is told again by ``ask_again``."""

    def channel(
        self,
        instance_id: str,
        *,
        on_ready: Callable[[], None],
        resubmit: Resubmit,
        max_queue: int,
        buffers: ReadBuffers,
    ) -> ModelsChannel:
        """Return a new channel to the models of one instance."""
        channel = ModelsChannel(
            instance_id,
            on_ready=on_ready,
            resubmit=resubmit,
            say=self._say,
            max_queue=max_queue,
            buffers=buffers,
        )
        self._channels[instance_id] = channel
        for name, place in self._places.get(instance_id, {}).items():
            channel.found(name, place)
        return channel

    def forget(self, channel: ModelsChannel) -> None:
        """Drop a channel that no route names any more."""
        if self._channels.get(channel.instance_id) is channel:
            del self._channels[channel.instance_id]

    def _say(self, message: Mapping[str, Any]) -> None:
        self.say(message)

    # From control -------------------------------------------------------------------------

    def apply_snapshot(self, places: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
        """Take all models anew, and ask again for those that calls wait for."""
        for instance_id in {*self._places, *places}:
            old, new = self._places.get(instance_id, {}), places.get(instance_id, {})
            for name in {*old, *new}:
                if old.get(name) != new.get(name):
                    self._set(instance_id, name, new.get(name))
        for channel in self._channels.values():
            channel.ask_again()

    def apply(self, message: Mapping[str, Any]) -> None:
        """Take a publication about one model."""
        instance_id, name = message["instance"], message["model"]
        kind = message["type"]
        channel = self._channels.get(instance_id)
        if kind == "model":
            self._set(instance_id, name, message["place"])
        elif kind == "model_refused" and channel is not None:
            channel.refused(name, message["error"])
        elif kind == "release":
            is_free = channel is None or not channel.is_busy(name)
            if is_free:
                self._set(instance_id, name, None)
            answer = {"type": "released", "instance": instance_id, "model": name, "ok": is_free}
            self.say(answer)

    def _set(self, instance_id: str, name: str, place: Mapping[str, Any] | None) -> None:
        places = self._places.setdefault(instance_id, {})
        if places.get(name) == place:
            return
        if place is None:
            places.pop(name, None)
            if not places:
                del self._places[instance_id]
        else:
            places[name] = place
        channel = self._channels.get(instance_id)
        if channel is not None:
            channel.lost(name)
            if place is not None:
                channel.found(name, place)

    def to_json(self) -> dict[str, Any]:
        """Return all that control has told, for the file that a restart begins with."""
        return {instance_id: dict(places) for instance_id, places in self._places.items()}

    def usage(self) -> list[tuple[str, str, float, int]]:
        """Return and reset what was used since the last time: instance, model, moment, calls."""
        return [used for channel in self._channels.values() for used in channel.usage()]
