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
from typing import Any, Callable, Dict, List, Optional, Set, Tuple, Union

from clary.messages import LineDecoder, ProtocolError, encode_line, parse_address
from clary.worker.log_watch import LogWatch, open_log
from clary.worker.memory import memory_kib
from clary.worker.model_watch import ModelWatch
from clary.worker.probes import FrameProbe, HttpProbe
from clary.worker.reasons import HOST_PREFIX, describe_ending
from clary.worker.spec import ContainerSpec, InstanceSpec, WorkerFiles, read_spec
from clary.worker.status_page import read_page
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

MAX_UNSENT_BYTES = 1024 * 1024
"""A client that reads nothing is dropped when so much waits for it."""

AnyProbe = Union[FrameProbe, HttpProbe]


def run_host(identity: str, spec_path: str) -> int:
    """Run the host of one instance until it is stopped; return its exit status.

    Args:
        identity: ``<endpoint>/<variant>/<instance>``; handed on to the workers' command lines.
        spec_path: Path of ``spec.json``.
    """
    spec = read_spec(spec_path)
    os.makedirs(spec.run_dir, mode=0o700, exist_ok=True)
    lifeline = os.environ.get("CLARY_LIFELINE_FD", "")
    Host(identity, spec_path, spec, int(lifeline) if lifeline else None).run()
    return 0


class Client:
    """One connection to ``host.sock``."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.decoder = LineDecoder(limit=64 * 1024)
        self.unsent = b""


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
        self._clients: Set[Client] = set()
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
            self._watch = Watch(spec, time.monotonic(), self._blocked_since)
        self._pipes: Dict[Key, int] = {}
        """Where waiting workers of a multi-model endpoint are told their model."""
        self._published = b""
        self._usage: Optional[UsageMeter] = None

    def run(self) -> None:
        """Work until told to stop and all workers have ended."""
        self._listen()
        self._watch_signals()
        if self._lifeline is not None:
            self._selector.register(self._lifeline, selectors.EVENT_READ, self._on_lifeline)
        while True:
            self._act(self._watch.tick(time.monotonic()))
            self._publish()
            if self._has_left:
                break
            next_at = self._watch.next_at()
            noted_at = self._log_watch.next_at
            next_at = noted_at if next_at is None else min(next_at, noted_at)
            for key, _ in self._selector.select(max(next_at - time.monotonic(), 0.0)):
                key.data()
            self._log_watch.note_if_due(time.monotonic())
        self._log_watch.note()
        os.unlink(self._socket_path)

    def _listen(self) -> None:
        self._socket_path = os.path.join(self._spec.run_dir, "host.sock")
        try:
            os.unlink(self._socket_path)
        except FileNotFoundError:
            pass
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        self._listener.bind(self._socket_path)
        os.chmod(self._socket_path, 0o600)
        self._listener.listen(16)
        self._selector.register(self._listener, selectors.EVENT_READ, self._on_client)

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
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
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
        now = time.monotonic()
        is_handler = container.style == "handler"
        self._watch.announced(key, f"unix:{files.socket}" if is_handler else None)
        try:
            pid = self._spawn(container, key)
        except OSError as error:
            what = container.python if is_handler else sys.executable
            self._act(self._watch.ended(key, Ending(f"cannot start {what}: {error}"), now))
            return
        self._watch.started(key, pid, now)

    def _spawn(self, container: ContainerSpec, key: Key) -> int:
        entry = os.path.join(os.path.dirname(os.path.abspath(__file__)), "main.py")
        if container.style == "handler":
            command = [container.python, entry]
        else:
            # Only starts the user's command: needs nothing of the model's environment.
            command = [sys.executable, "-I", "-S", entry]
        command += ["clary-worker", self._identity, self._spec_path, str(key[0]), str(key[1])]
        environment = dict(container.environment)
        if self._lifeline is not None:
            environment["CLARY_LIFELINE_FD"] = str(self._lifeline)
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

    def _on_client(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # gone again
        connection.setblocking(False)
        client = Client(connection)
        self._clients.add(client)
        self._selector.register(
            connection, selectors.EVENT_READ, lambda: self._on_client_event(client)
        )
        self._send(client, self._published)

    def _on_client_event(self, client: Client) -> None:
        if client not in self._clients:
            return
        if client.unsent:
            self._send(client, b"")
            if client not in self._clients:
                return
        try:
            data = client.socket.recv(65536)
            messages = client.decoder.feed(data) if data else None
        except BlockingIOError:
            return
        except (OSError, ProtocolError):
            messages = None
        if messages is None:
            self._drop(client)
            return
        for message in messages:
            self._obey(client, message)

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
        if self._usage is None:
            self._usage = UsageMeter(self._spec.containers[0].cwd)
        workers = [worker.pid for worker in self._watch.workers.values() if worker.pid is not None]
        usage = self._usage.measure(workers)
        models = self._watch.status().get("models")
        if models is not None:
            usage["models"] = sum(model["state"] == "ready" for model in models)
        self._send(client, encode_line({"usage": usage}))

    def _publish(self) -> None:
        line = encode_line(self._watch.status())
        if line != self._published:
            self._published = line
            for client in list(self._clients):
                self._send(client, line)

    def _send(self, client: Client, data: bytes) -> None:
        client.unsent += data
        try:
            sent = client.socket.send(client.unsent) if client.unsent else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(client)
            return
        client.unsent = client.unsent[sent:]
        if len(client.unsent) > MAX_UNSENT_BYTES:
            self._drop(client)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.unsent else 0)
        key = self._selector.get_key(client.socket)
        if key.events != events:
            self._selector.modify(client.socket, events, key.data)

    def _drop(self, client: Client) -> None:
        self._clients.discard(client)
        self._selector.unregister(client.socket)
        client.socket.close()
