"""The host of one instance: starts and watches its workers, and tells whoever asks how they are.

One thread around a selector; what to do is decided in ``watching.py``. No asyncio and no other big
module, for there is a host for every instance of every endpoint.

Workers write straight to the log file and inherit the supervisor's lifeline, so that a host that is
killed takes nothing with it: its workers serve on until the supervisor clears the process group.
"""

import json
import os
import selectors
import signal
import socket
import sys
import time
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

from clary.messages import ProtocolError, encode_line, parse_address
from clary.status_page import read_page
from clary.worker.host_clients import Client, Clients
from clary.worker.log_watch import LogWatch, open_log
from clary.worker.memory import memory_kib
from clary.worker.model_watch import ModelWatch
from clary.worker.probes import FrameProbe, HttpProbe
from clary.worker.reasons import HOST_PREFIX, describe_ending
from clary.worker.spec import ContainerSpec, InstanceSpec, WorkerFiles
from clary.worker.usage import UsageMeter
from clary.worker.watching import (
    Action,
    Assign,
    Ending,
    Key,
    Kill,
    Note,
    Probe,
    Start,
    Watch,
    WriteStacks,
)

AnyProbe = Union[FrameProbe, HttpProbe]


class Host:
    """Sockets, processes and timers of one instance."""

    def __init__(
        self, identity: str, spec_path: str, spec: InstanceSpec, lifeline: Optional[int]
    ) -> None:
        self._identity = identity
        self._spec_path = spec_path
        self._spec = spec
        self._lifeline = lifeline
        self._selector = selectors.DefaultSelector()
        self._clients = Clients(
            self._selector,
            os.path.join(spec.run_dir, "host.sock"),
            lambda client, message: self._obey(client, message),
        )
        self._probes: Dict[Key, AnyProbe] = {}
        self._last_answer: Dict[Key, float] = {}
        self._log_offsets: Dict[Key, int] = {}
        self._has_left = False
        self._log = open_log(spec.log)
        self._container_logs = [
            self._log if container.log == spec.log else open_log(container.log)
            for container in spec.containers
        ]
        logs = {container.log for container in spec.containers} | {spec.log}
        self._log_watch = LogWatch(sorted(logs), spec.log_max_bytes)
        self._models: Optional[ModelWatch] = None
        """The same as ``_watch`` on an instance of a multi-model endpoint."""
        if spec.containers[0].multi_model:
            self._watch: Watch = ModelWatch(spec, time.monotonic(), self._blocked_since)
            self._models = self._watch
        else:
            self._watch = self._new_watch()
        self._pipes: Dict[Key, int] = {}
        """Where waiting workers of a multi-model endpoint are told their model."""
        self._usage: Optional[UsageMeter] = None

    def _new_watch(self) -> Watch:
        return Watch(self._spec, time.monotonic(), self._blocked_since)

    def _look(self, now: float) -> float:
        """Look at what no event tells; return when to look again."""
        return float("inf")

    def run(self) -> None:
        """Work until told to stop and all workers have ended."""
        self._clients.listen()
        self._watch_signals()
        if self._lifeline is not None:
            self._selector.register(self._lifeline, selectors.EVENT_READ, self._on_lifeline)
        while True:
            self._act(self._watch.tick(time.monotonic()))
            self._clients.publish(encode_line(self._watch.status()))
            if self._has_left:
                break
            next_at = self._watch.next_at()
            noted_at = min(self._log_watch.next_at, self._look(time.monotonic()))
            next_at = noted_at if next_at is None else min(next_at, noted_at)
            for key, _ in self._selector.select(max(next_at - time.monotonic(), 0.0)):
                key.data()
            self._log_watch.note_if_due(time.monotonic())
        self._log_watch.note()
        os.unlink(self._clients.path)

    def _watch_signals(self) -> None:
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        # The handlers do nothing: the number arrives at the socket.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda number, frame: None)
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._on_signal)

    # Events -------------------------------------------------------------------------------

    def _on_signal(self) -> None:
        numbers = self._wake_read.recv(4096)
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self._stop()
        self._reap()

    def _on_lifeline(self) -> None:
        assert self._lifeline is not None
        if not os.read(self._lifeline, 1):
            self._selector.unregister(self._lifeline)
            self._stop()

    def _stop(self) -> None:
        self._act(self._watch.stop(time.monotonic()))

    def _reap(self) -> None:
        for key, worker in list(self._watch.workers.items()):
            if worker.pid is None:
                continue
            pid, status = self._wait_for(worker.pid)
            if pid:
                self._close_probe(key)
                self._close_pipe(key)
                ending = describe_ending(
                    status,
                    self._files(key).failure,
                    self._spec.containers[key[0]].log,
                    self._log_offsets[key],
                )
                self._act(self._watch.ended(key, ending, time.monotonic()))

    def _wait_for(self, pid: int) -> Tuple[int, int]:
        return os.waitpid(pid, os.WNOHANG)

    # Actions ------------------------------------------------------------------------------

    def _act(self, actions: List[Action]) -> None:
        for action in actions:
            if isinstance(action, Start):
                self._start(action.key)
            elif isinstance(action, Probe):
                self._probe(action.key)
            elif isinstance(action, Kill):
                self._kill(action.key, action.signal)
            elif isinstance(action, WriteStacks):
                # Before its page is there a worker would die of this signal.
                if read_page(self._files(action.key).status) is not None:
                    self._kill(action.key, signal.SIGUSR2)
            elif isinstance(action, Assign):
                self._assign(action)
            elif isinstance(action, Note):
                self._note(action.text)
            else:
                self._has_left = True

    def _note(self, text: str) -> None:
        try:
            os.write(self._log, f"{HOST_PREFIX}{text}\n".encode())
        except OSError:
            pass  # the disk is full: the workers matter more than what is said of them

    def _start(self, key: Key) -> None:
        container = self._spec.containers[key[0]]
        files = self._files(key)
        for path in (files.socket, files.status, files.failure, files.address):
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
        self._log_offsets[key] = os.fstat(self._container_logs[key[0]]).st_size
        is_handler = container.style == "handler"
        self._watch.announced(key, f"unix:{files.socket}" if is_handler else None)
        self._start_process(key)

    def _start_process(self, key: Key) -> None:
        container = self._spec.containers[key[0]]
        is_handler, now = container.style == "handler", time.monotonic()
        try:
            pid = self._spawn(container, key)
        except OSError as error:
            what = container.python if is_handler else sys.executable
            self._act(self._watch.ended(key, Ending(f"cannot start {what}: {error}"), now))
            return
        self._watch.started(key, pid, now)

    @staticmethod
    def _entry() -> str:
        return os.path.join(os.path.dirname(os.path.abspath(__file__)), "main.py")

    def _worker_environment(self, container: ContainerSpec) -> Dict[str, str]:
        environment = dict(container.environment)
        if self._lifeline is not None:
            environment["CLARY_LIFELINE_FD"] = str(self._lifeline)
        return environment

    def _spawn(self, container: ContainerSpec, key: Key) -> int:
        entry = self._entry()
        if container.style == "handler":
            command = [container.python, entry]
        else:
            # Only starts the user's command: needs nothing of the model's environment.
            command = [sys.executable, "-I", "-S", entry]
        command += ["clary-worker", self._identity, self._spec_path, str(key[0]), str(key[1])]
        environment = self._worker_environment(container)
        log = self._container_logs[key[0]]
        if not container.multi_model:
            stdin = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
            return self._spawn_with(command, environment, stdin, log)
        # Both ends are closed in every child but for the copy that becomes this one's stdin.
        read_end, self._pipes[key] = os.pipe()
        try:
            return self._spawn_with(command, environment, (os.POSIX_SPAWN_DUP2, read_end, 0), log)
        finally:
            os.close(read_end)

    def _spawn_with(
        self, command: List[str], environment: Dict[str, str], stdin: Tuple[Any, ...], log: int
    ) -> int:
        return os.posix_spawn(
            command[0],
            command,
            environment,
            file_actions=[
                stdin,
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
            ],
            # Python ignores these two; a model's process gets them as any other does.
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )

    def _assign(self, action: Assign) -> None:
        """Tell a waiting worker which model it is."""
        self._log_offsets[action.key] = os.fstat(self._log).st_size
        try:
            # Less than a pipe holds (64 KiB), as the request that it came in was.
            os.write(self._pipes[action.key], json.dumps(action.model).encode() + b"\n")
        except OSError:
            pass  # it has died: the end of its process says so
        self._close_pipe(action.key)

    def _close_pipe(self, key: Key) -> None:
        pipe = self._pipes.pop(key, None)
        if pipe is not None:
            os.close(pipe)

    def _kill(self, key: Key, number: int) -> None:
        pid = self._watch.workers[key].pid
        # Not reaped yet, so that the pid is still this worker's.
        if pid is not None:
            os.kill(pid, number)

    def _files(self, key: Key) -> WorkerFiles:
        return WorkerFiles(self._spec.run_dir, *key)

    # Probes -------------------------------------------------------------------------------

    def _probe(self, key: Key) -> None:
        is_handler = self._spec.containers[key[0]].style == "handler"
        if self._models is not None and self._models.is_spare(key):
            # It listens nowhere yet. Its page is there once it is warm.
            if read_page(self._files(key).status) is None:
                self._unanswered(key)
            else:
                self._watch.answered(key, time.monotonic())
            return
        try:
            probe = self._probes.get(key)
            if isinstance(probe, FrameProbe):
                probe.ask()
                return
            self._close_probe(key)
            probe = self._connect_handler(key) if is_handler else self._connect_command(key)
        except OSError:
            self._close_probe(key)
            self._unanswered(key)
            return
        self._probes[key] = probe
        events = selectors.EVENT_WRITE if probe.wants_write else selectors.EVENT_READ
        self._selector.register(probe.socket, events, self._probe_event(key, probe))

    def _connect_handler(self, key: Key) -> AnyProbe:
        return FrameProbe(self._files(key).socket)

    def _connect_command(self, key: Key) -> AnyProbe:
        with open(self._files(key).address, encoding="utf-8") as file:
            address = file.read().strip()
        self._watch.announced(key, address)
        try:
            _, host, port = parse_address(address)
        except ProtocolError as error:
            raise OSError(str(error)) from error
        assert port is not None
        return HttpProbe(host, port)

    def _probe_event(self, key: Key, probe: AnyProbe) -> "Callable[[], None]":
        def on_event() -> None:
            if self._probes.get(key) is not probe:
                return  # closed by an event of the same turn
            answer = probe.on_event()
            if answer is not None and (isinstance(probe, HttpProbe) or not answer):
                self._close_probe(key)
            elif isinstance(probe, HttpProbe) and not probe.wants_write:
                self._selector.modify(probe.socket, selectors.EVENT_READ, on_event)
            if answer:
                self._last_answer[key] = time.monotonic()
                self._watch.answered(key, time.monotonic())
                self._measure(key)
            elif answer is False:
                self._unanswered(key)

        return on_event

    def _measure(self, key: Key) -> None:
        pid = self._watch.workers[key].pid
        if self._models is not None and pid is not None:
            self._models.measured(key, memory_kib(pid))

    def _unanswered(self, key: Key) -> None:
        actions: List[Action] = []
        self._watch.unanswered(key, time.monotonic(), actions)
        self._act(actions)

    def _close_probe(self, key: Key) -> None:
        probe = self._probes.pop(key, None)
        if probe is not None:
            self._selector.unregister(probe.socket)
            probe.close()

    def _blocked_since(self, key: Key) -> Optional[float]:
        """Return since when a worker has been in a call during which it cannot answer.

        An asynchronous handler may have blocked its loop since its last answer. A user's own
        server must answer pings at any time (container.md 2).
        """
        probe = self._probes.get(key)
        if not isinstance(probe, FrameProbe):
            return None
        if not probe.is_sync:
            return self._last_answer.get(key)
        page = read_page(self._files(key).status)
        return page[0] / 1e9 if page is not None and page[0] else None

    # Clients ------------------------------------------------------------------------------

    def _obey(self, client: Client, message: Dict[str, Any]) -> None:
        operation, now = message.get("op"), time.monotonic()
        if operation == "stop":
            self._stop()
        elif operation == "usage":
            self._tell_usage(client)
        elif self._models is not None and operation == "load":
            self._models.load(str(message["model"]), message["spec"], now)
        elif self._models is not None and operation == "unload":
            self._act(self._models.unload(str(message["model"]), now))

    def _tell_usage(self, client: Client) -> None:
        self._clients.send(client, encode_line({"usage": self._measure_usage()}))

    def _measure_usage(self) -> Dict[str, Any]:
        if self._usage is None:
            self._usage = UsageMeter(self._spec.containers[0].cwd)
        pids: Dict[str, List[int]] = {container.name: [] for container in self._spec.containers}
        for key, worker in self._watch.workers.items():
            if worker.pid is not None:
                pids[self._spec.containers[key[0]].name].append(worker.pid)
        usage = self._usage.measure(pids)
        models = self._watch.status().get("models")
        if models is not None:
            usage["models"] = sum(model["state"] == "ready" for model in models)
        return usage
