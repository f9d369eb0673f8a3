"""Decides what a host does about its workers: start, probe, kill, start again, give up.

Pure: events and moments in, actions out. ``host.py`` carries the actions out and reports what
happened. Moments are seconds on the monotonic clock.

One worker::

    WAITING --Start--> STARTING --first answer--> READY
       ^                   |                        |
       |                   +---- ended, killed -----+
       +-- again, by the rules below                +--> DEAD (instance stopped or failed)

- The first worker of a container starts alone; the others when it is ready: a model that cannot be
  loaded fails once and not once per core, and the first answer does not wait for the last worker.
- A container that has never been ready: a worker that ends while loading is started again at once,
  ``load_attempts`` times within ``load_attempts_within_s``; then the instance has failed. Only
  silence waits for ``startup_timeout_s``.
- Once it has been ready: started again with growing pauses, for ever.
- A worker may be silent while it is in a call (``blocked_since``), up to the invocation limit and
  ``hung_grace_s``. Then its stacks are written to the log, and it is killed.
"""

import signal
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, Union

from clary.worker.spec import InstanceSpec

Key = Tuple[int, int]
"""Index of the container, index of the worker in it."""

WAITING, STARTING, READY, DEAD = "waiting", "starting", "ready", "dead"

RESTART_PAUSES_S = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
SETTLED_AFTER_S = 60.0
"""A worker that served this long starts with the first pause again."""
LOAD_RETRY_PAUSE_S = 0.1
FIRST_PROBE_PAUSES_S = {"handler": (0.005, 0.05), "command": (0.02, 0.2)}
"""Pause between two probes of a starting worker: at first, and at most. A handler's socket is only
looked for in the file system; a command has to accept a connection."""
PAUSE_GROWTH = 1.3
STACKS_BEFORE_KILL_S = 1.0
FAILED_STOP_S = 2.0
"""Time for the other workers of a failed instance to leave."""
FAIL_TOGETHER_S = 2.0
"""How long a failed container waits for the others to be ready or to fail, so that who reads the
reason hears of all that are wrong at once."""


class Start(NamedTuple):
    key: Key


class Probe(NamedTuple):
    key: Key


class Kill(NamedTuple):
    key: Key
    signal: int


class WriteStacks(NamedTuple):
    """Make the worker write the stacks of its threads to the log."""

    key: Key


class Note(NamedTuple):
    """A line for the log."""

    text: str


class Leave(NamedTuple):
    """All workers have ended; so may the host."""


class Assign(NamedTuple):
    """Tell a waiting worker of a multi-model endpoint which model it is."""

    key: Key
    model: Dict[str, Any]


Action = Union[Start, Probe, Kill, WriteStacks, Note, Leave, Assign]


class Ending(NamedTuple):
    """How a process ended."""

    text: str
    """For people: the error, or the signal or exit status."""
    log_tail: str = ""
    is_final: bool = False
    """Whether loading again would end the same way."""


class Worker:
    """What is known about one worker."""

    def __init__(self, key: Key, style: str, start_at: Optional[float]) -> None:
        self.key = key
        self.state = WAITING
        self.address: Optional[str] = None
        self.pid: Optional[int] = None
        self.starts = 0
        self.start_at = start_at
        self.first_started_at = 0.0
        self.started_at = 0.0
        self.ready_at = 0.0
        self.load_failures = 0
        self.quick_deaths = 0
        self.first_pause_s, self.longest_pause_s = FIRST_PROBE_PAUSES_S[style]
        self.forget_process()

    def forget_process(self) -> None:
        """Reset what belongs to one process."""
        self.probe_at: Optional[float] = None
        self.probe_until: Optional[float] = None
        self.probe_pause_s = self.first_pause_s
        self.failed_probes = 0
        self.blocked_since: Optional[float] = None
        self.has_written_stacks = False
        self.kill_at: Optional[float] = None
        self.killed_because = ""
        self.took_too_long = False


class Watch:
    """The workers of one instance."""

    def __init__(
        self,
        spec: InstanceSpec,
        now: float,
        blocked_since: "Callable[[Key], Optional[float]]",
    ) -> None:
        """Begin with no process running.

        Args:
            spec: What to run.
            now: The moment.
            blocked_since: Since when a worker has been in a call during which it cannot answer;
                None when it could.
        """
        self._spec = spec
        self._blocked_since = blocked_since
        self._limit_s = spec.invocation_timeout_s + spec.hung_grace_s
        self._stacks_lead_s = min(STACKS_BEFORE_KILL_S, self._limit_s / 2)
        self._has_been_ready = [False] * len(spec.containers)
        self._was_healthy = False
        self._is_stopping = False
        self._is_failed = False
        self._reason: Optional[str] = None
        self._failures: Dict[int, str] = {}
        """Why containers cannot be loaded, by their index."""
        self._fail_at: Optional[float] = None
        self.workers: Dict[Key, Worker] = {}
        for c, container in enumerate(spec.containers):
            for w in range(container.workers):
                start_at = now if w == 0 else None
                self.workers[c, w] = Worker((c, w), container.style, start_at)

    # What is to be done -------------------------------------------------------------------

    def next_at(self) -> Optional[float]:
        """Return the moment of the next ``tick`` that can matter; None: only after an event."""
        moments: List[float] = [] if self._fail_at is None else [self._fail_at]
        for worker in self.workers.values():
            if worker.state == WAITING:
                moments += [worker.start_at] if worker.start_at is not None else []
                continue
            timers = (worker.probe_at, worker.probe_until, worker.kill_at)
            moments += [moment for moment in timers if moment is not None]
            if worker.kill_at is None and worker.pid is not None:
                limit_at = self._limit_at(worker)
                if limit_at is not None:
                    lead = 0.0 if worker.has_written_stacks else self._stacks_lead_s
                    moments.append(limit_at - lead)
        return min(moments) if moments else None

    def tick(self, now: float) -> List[Action]:
        """Return what is due."""
        actions: List[Action] = []
        if self._fail_at is not None and self._fail_at <= now:
            return self._fail(now)
        for worker in self.workers.values():
            if worker.state == WAITING:
                if worker.start_at is not None and worker.start_at <= now:
                    worker.start_at = None
                    actions.append(Start(worker.key))
            elif worker.pid is not None:
                self._tick_process(worker, now, actions)
        return actions

    def _tick_process(self, worker: Worker, now: float, actions: List[Action]) -> None:
        if worker.kill_at is not None:
            if worker.kill_at <= now:
                worker.kill_at = None
                actions.append(Kill(worker.key, signal.SIGKILL))
            return
        if worker.killed_because or self._is_stopping:
            return
        if worker.blocked_since is not None:
            since = self._blocked_since(worker.key)
            if since != worker.blocked_since:
                worker.blocked_since = since
                worker.has_written_stacks = False
        limit_at = self._limit_at(worker)
        if limit_at is not None and limit_at - self._stacks_lead_s <= now:
            if not worker.has_written_stacks:
                worker.has_written_stacks = True
                actions.append(WriteStacks(worker.key))
            if limit_at <= now:
                worker.took_too_long = worker.state == STARTING
                self._kill(worker, self._why_late(worker, now), actions)
                return
        if worker.probe_until is not None and worker.probe_until <= now:
            self.unanswered(worker.key, now, actions)
        elif worker.probe_at is not None and worker.probe_at <= now:
            worker.probe_at = None
            worker.probe_until = now + self._spec.ping_timeout_s
            actions.append(Probe(worker.key))

    def _limit_at(self, worker: Worker) -> Optional[float]:
        """Return when the process has been silent for too long; None while it is not."""
        if worker.killed_because or self._is_stopping:
            return None
        if worker.state == STARTING:
            return worker.started_at + self._spec.startup_timeout_s
        if worker.blocked_since is not None:
            return worker.blocked_since + self._limit_s
        return None

    def _why_late(self, worker: Worker, now: float) -> str:
        if worker.state == STARTING:
            return (
                f"the model was not ready {self._spec.startup_timeout_s:g} s after its process "
                "had been started"
            )
        since = worker.blocked_since if worker.blocked_since is not None else now
        return f"its handler had been hanging in one call for {now - since:.1f} s"

    def _kill(self, worker: Worker, why: str, actions: List[Action]) -> None:
        worker.killed_because = why
        worker.probe_at = worker.probe_until = None
        actions += [
            Note(f"{self._name(worker.key)} is killed: {why}"),
            Kill(worker.key, signal.SIGKILL),
        ]

    # What happened ------------------------------------------------------------------------

    def started(self, key: Key, pid: int, now: float) -> None:
        """A process runs."""
        worker = self.workers[key]
        worker.forget_process()
        worker.state = STARTING
        worker.pid = pid
        worker.started_at = now
        if worker.starts == 0:
            worker.first_started_at = now
        worker.starts += 1
        worker.probe_at = now + worker.first_pause_s

    def announced(self, key: Key, address: Optional[str]) -> None:
        """A process says, or the host knows, where it listens."""
        self.workers[key].address = address

    def answered(self, key: Key, now: float) -> None:
        """A probe was answered well."""
        worker = self.workers[key]
        if worker.pid is None or worker.killed_because:
            return
        worker.failed_probes = 0
        worker.blocked_since = None
        worker.has_written_stacks = False
        worker.probe_until = None
        worker.probe_at = now + self._spec.ping_interval_s
        if worker.state == STARTING:
            worker.state = READY
            worker.ready_at = now
            worker.load_failures = 0
            self._container_is_ready(key[0], now)

    def unanswered(self, key: Key, now: float, actions: List[Action]) -> None:
        """A probe failed, or was not answered in time; adds to ``actions``."""
        worker = self.workers[key]
        if worker.pid is None or worker.killed_because:
            return
        worker.probe_until = None
        if worker.state == STARTING:
            worker.probe_at = now + worker.probe_pause_s
            worker.probe_pause_s = min(worker.probe_pause_s * PAUSE_GROWTH, worker.longest_pause_s)
            return
        worker.probe_at = now + self._spec.ping_interval_s
        worker.blocked_since = self._blocked_since(key)
        if worker.blocked_since is not None:
            return
        worker.failed_probes += 1
        if worker.failed_probes >= self._spec.unhealthy_after:
            self._kill(worker, f"it failed {worker.failed_probes} pings in a row", actions)

    def ended(self, key: Key, ending: Ending, now: float) -> List[Action]:
        """A process ended, or could not be started."""
        worker = self.workers[key]
        was_ready = worker.state == READY
        text = worker.killed_because or ending.text
        took_too_long = worker.took_too_long
        worker.forget_process()
        worker.pid = None
        worker.state = DEAD
        if self._is_stopping or self._is_failed:
            return self._leave_when_empty()
        actions: List[Action] = [
            Note(f"{self._name(key)} ended{'' if was_ready else ' while loading'}: {text}")
        ]
        reason = f"{text}\n{ending.log_tail}".strip()
        if was_ready or self._has_been_ready[key[0]]:
            if was_ready and now - worker.ready_at >= SETTLED_AFTER_S:
                worker.quick_deaths = 0
            pause = RESTART_PAUSES_S[min(worker.quick_deaths, len(RESTART_PAUSES_S) - 1)]
            worker.quick_deaths += 1
            self._start_again(worker, now + pause)
        else:
            worker.load_failures += 1
            if (
                ending.is_final
                or took_too_long
                or worker.load_failures >= self._spec.load_attempts
                or now - worker.first_started_at >= self._spec.load_attempts_within_s
            ):
                self._failures[key[0]] = reason
                return actions + self._fail_together(now)
            self._start_again(worker, now + LOAD_RETRY_PAUSE_S)
        self._reason = reason
        return actions

    def stop(self, now: float) -> List[Action]:
        """The instance is no longer wanted."""
        if self._is_stopping:
            return []
        self._is_stopping = True
        self._fail_at = None
        return self._terminate(now, self._spec.stop_timeout_s) + self._leave_when_empty()

    def _container_is_ready(self, container: int, now: float) -> None:
        if not self._has_been_ready[container]:
            self._has_been_ready[container] = True
            for key, worker in self.workers.items():
                if key[0] == container and worker.state == WAITING and worker.start_at is None:
                    worker.start_at = now
        if self._fail_at is not None and self._all_containers_are_known():
            self._fail_at = now
        if self._every_container_has_a_ready_worker():
            self._was_healthy = True
            self._reason = None

    def _start_again(self, worker: Worker, at: float) -> None:
        worker.state = WAITING
        worker.start_at = at

    def _fail_together(self, now: float) -> List[Action]:
        """A container failed: so does the instance, once it is known how the others are."""
        if self._all_containers_are_known():
            return self._fail(now)
        if self._fail_at is None:
            self._fail_at = now + FAIL_TOGETHER_S
        return []

    def _all_containers_are_known(self) -> bool:
        """Whether each container has been ready, or has failed for good."""
        return all(
            ready or index in self._failures for index, ready in enumerate(self._has_been_ready)
        )

    def _fail(self, now: float) -> List[Action]:
        self._fail_at = None
        self._is_failed = True
        self._reason = "\n".join(
            self._failures[index]
            if len(self._spec.containers) == 1
            else f"{self._spec.containers[index].name}: {self._failures[index]}"
            for index in sorted(self._failures)
        )
        return self._terminate(now, FAILED_STOP_S)

    def _terminate(self, now: float, patience_s: float) -> List[Action]:
        actions: List[Action] = []
        for worker in self.workers.values():
            if worker.pid is not None:
                worker.killed_because = "it was told to stop"
                worker.kill_at = now + patience_s
                worker.probe_at = worker.probe_until = None
                actions.append(Kill(worker.key, signal.SIGTERM))
            else:
                worker.state = DEAD
        return actions

    def _leave_when_empty(self) -> List[Action]:
        # A failed instance stays until it is told to stop, so that its reason can be read.
        if self._is_stopping and all(w.pid is None for w in self.workers.values()):
            return [Leave()]
        return []

    # What others see ----------------------------------------------------------------------

    def status(self) -> Dict[str, Any]:
        """Return the status message of ``host.sock``."""
        containers = [
            {
                "name": container.name,
                "has_failed": c in self._failures,
                "workers": [
                    {
                        "address": worker.address,
                        # Between two starts there is no process.
                        "state": DEAD
                        if worker.state == WAITING and worker.starts
                        else worker.state
                        if worker.state != WAITING
                        else STARTING,
                        "pid": worker.pid,
                        "starts": worker.starts,
                    }
                    for key, worker in self.workers.items()
                    if key[0] == c
                ],
            }
            for c, container in enumerate(self._spec.containers)
        ]
        return {
            "instance_id": self._spec.instance_id,
            "state": self._state(),
            "reason": self._reason if self._state() in ("failed", "unhealthy") else None,
            "containers": containers,
        }

    def _state(self) -> str:
        if self._is_stopping:
            return "stopping"
        if self._is_failed:
            return "failed"
        if self._every_container_has_a_ready_worker():
            return "healthy"
        return "unhealthy" if self._was_healthy else "starting"

    def _every_container_has_a_ready_worker(self) -> bool:
        ready = {key[0] for key, worker in self.workers.items() if worker.state == READY}
        return len(ready) == len(self._spec.containers)

    def _name(self, key: Key) -> str:
        return f"worker {key[1]} of container {self._spec.containers[key[0]].name}"
