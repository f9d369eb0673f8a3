"""The host of a serverless variant: workers come and go, and are forked from a template.

What it adds to ``Host``: requests to scale, the template process (``template.py``), and a look at
the memory of its workers ten times a second. What to do is decided in ``scaled_watch.py``.
"""

import contextlib
import ctypes
import json
import os
import selectors
import signal
import socket
import time
from typing import Any, Dict, Optional, Tuple

from clary.messages import LineDecoder, ProtocolError
from clary.status_page import note_memory_limit
from clary.worker.host import Host
from clary.worker.host_clients import Client
from clary.worker.memory_limit import resident_mb
from clary.worker.scaled_watch import ScaledWatch
from clary.worker.template import NUMBER_DIGITS, TEMPLATE_WORD
from clary.worker.watching import Key, Watch

PR_SET_CHILD_SUBREAPER = 36
MEMORY_LOOK_S = 0.1
TEMPLATE_PAUSE_S = 60.0
"""Least time between two starts of a template, in seconds."""


class Template:
    """The template process, as its host knows it."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self.socket = connection
        self.decoder = LineDecoder(limit=64 * 1024)
        self.is_ready = False
        self.asked: Dict[int, Key] = {}
        """Workers that it is making, by their index."""


class ScaledHost(Host):
    """Sockets, processes and timers of one serverless variant."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._container = self._spec.containers[0]
        self._look_at = 0.0
        self._template: Optional[Template] = None
        self._template_at = 0.0
        """When a template may be started."""
        self._has_template = self._container.template and self._container.style == "handler"
        self._ended: Dict[int, int] = {}
        """Wait statuses of processes that nobody has claimed yet, by pid."""
        # Forked workers lose their parent at once, and become children of this process.
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def _new_watch(self) -> Watch:
        self._scaled = ScaledWatch(self._spec, time.monotonic(), self._blocked_since)
        return self._scaled

    def _obey(self, client: Client, message: Dict[str, Any]) -> None:
        if message.get("op") == "scale":
            workers, ending = int(message["workers"]), [str(each) for each in message["end"]]
            self._act(self._scaled.scale(workers, ending, time.monotonic()))
        else:
            super()._obey(client, message)

    def _stop(self) -> None:
        self._has_template = False
        self._drop_template()
        super()._stop()

    # Looking ------------------------------------------------------------------------------

    def _look(self, now: float) -> float:
        """Look at memory, and whether a template can be had; return when to look again."""
        if now < self._look_at:
            return self._look_at
        self._look_at = now + MEMORY_LOOK_S
        limit_mb = self._container.memory_limit_mb
        is_alive = False
        for key, worker in list(self._watch.workers.items()):
            if worker.pid is None:
                continue
            is_alive = True
            memory_mb = sum(map(resident_mb, _family(worker.pid))) if limit_mb else 0
            if limit_mb and memory_mb > limit_mb:
                actions = self._scaled.over_limit(key, memory_mb, limit_mb, now)
                if actions:
                    with contextlib.suppress(OSError):  # it has no page yet, and takes no calls
                        note_memory_limit(self._files(key).status, limit_mb)
                self._act(actions)
        if (
            self._has_template
            and self._template is None
            and now >= self._template_at
            and self._scaled.has_been_ready
        ):
            self._start_template(now)
        return self._look_at if is_alive else float("inf")

    def _measure_usage(self) -> Dict[str, Any]:
        usage = super()._measure_usage()
        limit_mb = self._container.memory_limit_mb
        if limit_mb:
            # Of what each worker may have, not of the machine: of the one that has the most.
            pids = [w.pid for w in self._watch.workers.values() if w.pid is not None]
            most_mb = max((sum(map(resident_mb, _family(pid))) for pid in pids), default=0)
            usage["memory_percent"] = 100.0 * most_mb / limit_mb
        return usage

    # The template -------------------------------------------------------------------------

    def _start_template(self, now: float) -> None:
        self._template_at = now + TEMPLATE_PAUSE_S
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        command = [self._container.python, self._entry(), TEMPLATE_WORD, self._identity]
        command += [self._spec_path, "0", "0" * NUMBER_DIGITS]
        try:
            pid = self._spawn_with(
                command,
                self._worker_environment(self._container),
                (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
                self._log,
            )
        except OSError:
            ours.close()
            return
        finally:
            theirs.close()
        self._template = template = Template(pid, ours)
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._on_template(template))

    def _on_template(self, template: Template) -> None:
        if self._template is not template:
            return
        try:
            data = template.socket.recv(65536)
            messages = template.decoder.feed(data) if data else None
        except BlockingIOError:
            return
        except (OSError, ProtocolError):
            messages = None
        for message in messages or ():
            if "ready" in message:
                template.is_ready = True
            elif "unfit" in message:
                self._has_template = False
                self._note(f"workers are not forked: {message['unfit']}")
            else:
                self._take_worker(template, int(message["worker"]), message["pid"])
        if messages is None:
            self._drop_template()

    def _take_worker(self, template: Template, index: int, pid: Optional[int]) -> None:
        key = template.asked.pop(index, None)
        if pid is None:
            if key is not None:
                self._start_anew(key)
            return
        worker = None if key is None else self._watch.workers.get(key)
        if key is None or worker is None or worker.pid is not None:
            os.kill(pid, signal.SIGTERM)  # not wanted any more
            return
        self._watch.started(key, pid, time.monotonic())
        self._reap()

    def _drop_template(self) -> None:
        """Let the template go, and start what it was asked for without it."""
        template, self._template = self._template, None
        if template is None:
            return
        self._selector.unregister(template.socket)
        template.socket.close()
        if template.asked:
            self._kill_unclaimed()
        for key in template.asked.values():
            self._start_anew(key)

    def _kill_unclaimed(self) -> None:
        """End workers that a template has made, and died before it could say so."""
        known = {worker.pid for worker in self._watch.workers.values()}
        for pid in _family(os.getpid())[1:]:
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    is_ours = self._identity.encode() in file.read().split(b"\0")
            except OSError:
                continue
            if is_ours and pid not in known:
                os.kill(pid, signal.SIGKILL)  # a child, and so not another process by now

    def _start_process(self, key: Key) -> None:
        template = self._template
        if template is None or not template.is_ready:
            super()._start_process(key)
            return
        try:
            template.socket.send(json.dumps({"worker": key[1]}).encode() + b"\n")
        except OSError:
            self._drop_template()
            super()._start_process(key)
            return
        template.asked[key[1]] = key

    def _start_anew(self, key: Key) -> None:
        if key in self._watch.workers and self._watch.workers[key].pid is None:
            super()._start_process(key)

    # Endings ------------------------------------------------------------------------------

    def _wait_for(self, pid: int) -> Tuple[int, int]:
        """Return the pid and status of a process that has ended; (0, 0) while it lives."""
        while True:
            try:
                ended, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not ended:
                break
            self._ended[ended] = status
        status_of = self._ended.pop(pid, None)
        return (0, 0) if status_of is None else (pid, status_of)

    def _reap(self) -> None:
        self._wait_for(0)
        super()._reap()
        template = self._template
        if template is not None and self._ended.pop(template.pid, None) is not None:
            self._drop_template()
        if template is None or not template.asked:
            self._ended.clear()  # what models have left behind


def _family(pid: int) -> Tuple[int, ...]:
    """Return a process and its children: a user's own server is the child of its keeper."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return (pid, *map(int, file.read().split()))
    except (OSError, ValueError):
        return (pid,)
