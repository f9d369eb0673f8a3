"""Decides what a host does about workers whose number changes, down to none.

Control says how many there should be (``scale``), and which ones end: it has taken those out of the
routes first. What starts a worker, a template or a new interpreter, is the host's business. A host
without workers that once had one is well: it waits. Pure, as ``watching.py`` is.
"""

import signal
from itertools import count
from typing import Any, Callable, Dict, List, Optional, Sequence, Set

from clary.worker.spec import InstanceSpec
from clary.worker.watching import READY, Action, Ending, Key, Kill, Note, Watch, Worker

KILL_AFTER_S = 2.0
"""Time from the signal that lets a worker say that it took too much memory to the one that ends
it, in seconds. One that is in the middle of a large copy hears of the first only after that."""
MOST_OVER = 2
"""A worker that has so many times its memory is killed at once."""

MEMORY_SIGNAL = signal.SIGRTMIN + 7
"""Tells a worker that it has taken too much memory (``memory_limit.py``)."""


class ScaledWatch(Watch):
    """The workers of one serverless variant's host. It has one container."""

    def __init__(
        self, spec: InstanceSpec, now: float, blocked_since: "Callable[[Key], Optional[float]]"
    ) -> None:
        super().__init__(spec, now, blocked_since)
        self._style = spec.containers[0].style
        self._wanted = len(self.workers)
        self._leaving: Set[Key] = set()

    @property
    def has_been_ready(self) -> bool:
        """Whether a worker has ever been ready: the model can be loaded."""
        return self._has_been_ready[0]

    # What others want ---------------------------------------------------------------------

    def scale(self, workers: int, ending: Sequence[str], now: float) -> List[Action]:
        """Want a number of workers.

        Args:
            workers: How many.
            ending: Addresses of those that end, because no route names them any more. What they
                have accepted is answered first.
            now: The moment.
        """
        if self._is_stopping or self._is_failed:
            return []
        actions: List[Action] = []
        for key, worker in list(self.workers.items()):
            if worker.address in ending and key not in self._leaving:
                actions += self._let_go(worker, now)
        if workers and not self._wanted:
            self._reason = None  # what was the matter last time may not be any more
        self._wanted = workers
        self._fill(now)
        return actions + self._drop_unready(now)

    def over_limit(self, key: Key, memory_mb: int, limit_mb: int, now: float) -> List[Action]:
        """A worker took more memory than its variant has: it is told so, and killed."""
        worker = self.workers[key]
        if memory_mb >= MOST_OVER * limit_mb and worker.kill_at is not None:
            worker.kill_at = min(worker.kill_at, now)
        if worker.killed_because or worker.pid is None:
            return []
        worker.killed_because = (
            f"it took {memory_mb} MB of memory, more than the {limit_mb} MB that the variant has "
            "(MemorySizeInMB)"
        )
        worker.probe_at = worker.probe_until = None
        worker.kill_at = now + KILL_AFTER_S
        name = self._name(key)
        return [Note(f"{name} is killed: {worker.killed_because}"), Kill(key, MEMORY_SIGNAL)]

    # What happens -------------------------------------------------------------------------

    def ended(self, key: Key, ending: Ending, now: float) -> List[Action]:
        """A process ended, or could not be started."""
        if key not in self._leaving:
            was_ready = self.workers[key].state == READY
            actions = super().ended(key, ending, now)
            if not (self._is_stopping or self._is_failed):
                self._drop_waiting()
                if was_ready:
                    self._reason = None  # calls wait for its successor, which starts at once
            return actions
        self._leaving.discard(key)
        del self.workers[key]
        return self._leave_when_empty() if self._is_stopping or self._is_failed else []

    def _container_is_ready(self, container: int, now: float) -> None:
        super()._container_is_ready(container, now)
        self._fill(now)

    # Inside -------------------------------------------------------------------------------

    def _live(self) -> List[Worker]:
        return [w for key, w in self.workers.items() if key not in self._leaving]

    def _fill(self, now: float) -> None:
        """Add what is missing. Until one has been ready, the others wait for it."""
        live = self._live()
        has_been_ready = self._has_been_ready[0]
        # One that is waiting out a pause after its death is the one that is wanted: call it now.
        if has_been_ready and live and self._wanted and not any(w.pid is not None for w in live):
            for worker in live:
                if worker.start_at is not None:
                    worker.start_at = min(worker.start_at, now)
        for _ in range(self._wanted - len(live)):
            key = (0, next(i for i in count() if (0, i) not in self.workers))
            first = has_been_ready or not self.workers
            self.workers[key] = Worker(key, self._style, now if first else None)

    def _drop_waiting(self) -> None:
        """Forget surplus workers that have no process."""
        for worker in reversed(self._live()):
            if len(self._live()) > self._wanted and worker.pid is None:
                del self.workers[worker.key]

    def _drop_unready(self, now: float) -> List[Action]:
        """End surplus workers that no route can name: those that have not been ready yet."""
        if not self._has_been_ready[0]:
            return []  # the first one shows whether the model can be loaded at all
        self._drop_waiting()
        actions: List[Action] = []
        for worker in reversed(self._live()):
            if len(self._live()) > self._wanted and worker.state != READY:
                actions += self._let_go(worker, now)
        return actions

    def _let_go(self, worker: Worker, now: float) -> List[Action]:
        if worker.pid is None:
            del self.workers[worker.key]
            return []
        self._leaving.add(worker.key)
        worker.killed_because = worker.killed_because or "it was not needed any more"
        worker.kill_at = now + self._spec.stop_timeout_s
        worker.probe_at = worker.probe_until = None
        return [Kill(worker.key, signal.SIGTERM)]

    def _every_container_has_a_ready_worker(self) -> bool:
        if self._has_been_ready[0] and not self._wanted:
            return True
        return any(worker.state == READY for worker in self._live())

    # What others see ----------------------------------------------------------------------

    def status(self) -> Dict[str, Any]:
        """Return the status message of ``host.sock``."""
        status = super().status()
        gone = {
            self.workers[key].pid
            for key in self.workers
            if key in self._leaving or self.workers[key].killed_because
        } - {None}
        container = status["containers"][0]
        container["workers"] = [w for w in container["workers"] if w["pid"] not in gone]
        status["wanted"] = self._wanted
        return status
