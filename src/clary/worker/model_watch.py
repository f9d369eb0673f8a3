"""Decides what a host does about the models of a multi-model endpoint.

Each loaded model is a worker process of its own, so that models share no modules and no faults. One
more process, the spare, waits warm and without a model; to load one is to tell the spare which
model it is, and to start another spare::

    spare: WAITING -> STARTING -> READY --load--> STARTING -> READY (serves) --unload--> gone
                                                     |           |
                                                     +-- ended --+--> gone

A spare lives by the rules of ``Watch``. A model that ends is not started again: whoever needs it
has it loaded. Pure, as ``watching.py`` is.
"""

import signal
from typing import Any, Callable, Dict, List, Optional

from clary.worker.spec import InstanceSpec
from clary.worker.watching import (
    READY,
    STARTING,
    WAITING,
    Action,
    Assign,
    Ending,
    Key,
    Kill,
    Note,
    Watch,
    Worker,
)

LOADING, LOADED, FAILED, UNLOADING = "loading", "ready", "failed", "unloading"

SICK_AFTER_DEATHS = 3
"""A spare that dies so often in a row makes the instance unhealthy."""
MEASURE_STEP_KIB = 1024
"""A model's memory is told again when it has changed by so much."""


class ModelWatch(Watch):
    """The spare and the models of one instance."""

    def __init__(
        self, spec: InstanceSpec, now: float, blocked_since: "Callable[[Key], Optional[float]]"
    ) -> None:
        super().__init__(spec, now, blocked_since)
        self._model_names: Dict[Key, str] = {}
        self._wanted: Dict[str, Dict[str, Any]] = {}
        """Models that wait for a spare, oldest first."""
        self._unloading: List[Key] = []
        self._load_failures: Dict[str, str] = {}
        self._memory_kib: Dict[Key, int] = {}
        self._spare_memory_kib = 0
        self._next_index = max(index for _, index in self.workers) + 1

    # What others want ---------------------------------------------------------------------

    def load(self, name: str, model: Dict[str, Any], now: float) -> None:
        """Begin to load a model, unless it is here or on its way; ``tick`` says what to do."""
        if name in self._wanted or self._key_of(name) is not None:
            return
        self._load_failures.pop(name, None)
        self._wanted[name] = model
        if self._spare() is None:
            self._start_spare(now)

    def unload(self, name: str, now: float) -> List[Action]:
        """End a model's process; what it has accepted is answered first."""
        self._load_failures.pop(name, None)
        self._wanted.pop(name, None)
        key = self._key_of(name)
        if key is None:
            return []
        worker = self.workers[key]
        self._unloading.append(key)
        worker.killed_because = "it was unloaded"
        worker.kill_at = now + self._spec.stop_timeout_s
        worker.probe_at = worker.probe_until = None
        return [Kill(key, signal.SIGTERM)]

    def is_spare(self, key: Key) -> bool:
        """Whether this worker has no model yet."""
        return key not in self._model_names

    # What happens -------------------------------------------------------------------------

    def next_at(self) -> Optional[float]:
        """Return the moment of the next ``tick`` that can matter; None: only after an event."""
        spare = self._spare()
        if self._wanted and spare is not None and spare.state == READY and not self._is_stopping:
            return spare.ready_at  # has passed: the spare became warm in this turn
        return super().next_at()

    def tick(self, now: float) -> List[Action]:
        """Return what is due."""
        return super().tick(now) + self._assign(now)

    def answered(self, key: Key, now: float) -> None:
        """A probe was answered well."""
        was_loading = key in self._model_names and self.workers[key].state == STARTING
        super().answered(key, now)
        if was_loading:
            # Not before: a new interpreter would take the processor from the model.
            self._start_spare(now)

    def measured(self, key: Key, memory_kib: int) -> None:
        """A process, of a model or the spare, takes so much memory."""
        if abs(memory_kib - self._memory_kib.get(key, 0)) >= MEASURE_STEP_KIB:
            self._memory_kib[key] = memory_kib
            if self.is_spare(key):
                # The next spare will take as much: told also while there is none.
                self._spare_memory_kib = memory_kib

    def ended(self, key: Key, ending: Ending, now: float) -> List[Action]:
        """A process ended, or could not be started."""
        name = self._model_names.get(key)
        if name is None:
            return super().ended(key, ending, now)
        worker = self.workers.pop(key)
        del self._model_names[key]
        self._memory_kib.pop(key, None)
        was_unloaded = key in self._unloading
        if was_unloaded:
            self._unloading.remove(key)
        if self._is_stopping or self._is_failed:
            return self._leave_when_empty()
        text = worker.killed_because or ending.text
        if worker.state == STARTING and not was_unloaded:
            self._load_failures[name] = f"{text}\n{ending.log_tail}".strip()
        self._start_spare(now)
        what = "" if worker.state == READY else " while loading"
        return [Note(f"the process of model {name} ended{what}: {text}")]

    # Inside -------------------------------------------------------------------------------

    def _assign(self, now: float) -> List[Action]:
        """Give the model that waits longest to the spare, when that is warm."""
        spare = self._spare()
        if not self._wanted or spare is None or spare.state != READY or self._is_stopping:
            return []
        name = next(iter(self._wanted))
        model = self._wanted.pop(name)
        self._model_names[spare.key] = name
        spare.state = STARTING
        spare.started_at = now
        spare.probe_until = None
        spare.probe_at = now + spare.first_pause_s
        if self._wanted:
            self._start_spare(now)
        return [Assign(spare.key, model)]

    def _spare(self) -> Optional[Worker]:
        return next((w for key, w in self.workers.items() if key not in self._model_names), None)

    def _start_spare(self, now: float) -> None:
        if self._spare() is None and not (self._is_stopping or self._is_failed):
            key = (0, self._next_index)
            self._next_index += 1
            self.workers[key] = Worker(key, "handler", now)

    def _key_of(self, name: str) -> Optional[Key]:
        """Return the worker that is, or becomes, a model; not one that leaves."""
        for key, other in self._model_names.items():
            if other == name and key not in self._unloading:
                return key
        return None

    def _every_container_has_a_ready_worker(self) -> bool:
        # Between two spares there may be no process that is ready: all is well nevertheless.
        spare = self._spare()
        return self._has_been_ready[0] and (
            spare is None or spare.quick_deaths < SICK_AFTER_DEATHS or spare.state == READY
        )

    # What others see ----------------------------------------------------------------------

    def status(self) -> Dict[str, Any]:
        """Return the status message of ``host.sock``."""
        status = super().status()
        spares = [
            {
                "address": worker.address,
                "state": STARTING if worker.state == WAITING else worker.state,
                "pid": worker.pid,
                "starts": worker.starts,
            }
            for key, worker in self.workers.items()
            if key not in self._model_names
        ]
        status["containers"][0]["workers"] = spares
        status["spare_memory_kib"] = self._spare_memory_kib
        status["models"] = [
            *({"name": name, "state": LOADING} for name in self._wanted),
            *(self._model_status(key, name) for key, name in self._model_names.items()),
            *(
                {"name": name, "state": FAILED, "reason": reason}
                for name, reason in self._load_failures.items()
            ),
        ]
        return status

    def _model_status(self, key: Key, name: str) -> Dict[str, Any]:
        worker = self.workers[key]
        state = LOADED if worker.state == READY else LOADING
        return {
            "name": name,
            "state": UNLOADING if key in self._unloading else state,
            "address": worker.address,
            "pid": worker.pid,
            "memory_kib": self._memory_kib.get(key, 0),
        }
