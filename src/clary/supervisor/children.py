"""The processes that the supervisor has started: starting, reaping, signalling.

Each leads a process group of its own, inherits the read end of the lifeline, and writes to a log.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import Any

from clary.log_times import open_to_append
from clary.supervisor.plan import Role

PR_SET_CHILD_SUBREAPER = 36
LAST_ORPHANS_S = 2.0


@dataclass(slots=True)
class Child:
    """A process that was started here, alive or dead."""

    id: str
    process: subprocess.Popen[bytes]
    started_at: float
    role: Role | None = None
    returncode: int | None = None

    @property
    def is_alive(self) -> bool:
        return self.returncode is None


class Children:
    """All children, by id.

    Args:
        life: Name of this run of the server, which children are told.
    """

    def __init__(self, life: str) -> None:
        self._life = life
        self._children: dict[str, Child] = {}
        self._by_pid: dict[int, Child] = {}
        # The write end is here alone: when this process goes, whatever way, readers see the end.
        self._lifeline_read, self._lifeline_write = os.pipe()

    def get(self, id: str) -> Child | None:
        """Return a child, alive or dead."""
        return self._children.get(id)

    def alive(self) -> list[Child]:
        """Return those that live."""
        return [child for child in self._children.values() if child.is_alive]

    def list_requested(self) -> list[dict[str, Any]]:
        """Return those that are no roles, as JSON types."""
        return [
            {
                "id": child.id,
                "pid": child.process.pid,
                "alive": child.is_alive,
                "returncode": child.returncode,
            }
            for child in self._children.values()
            if child.role is None
        ]

    def forget(self, id: str) -> None:
        """Take a dead child that is no role off the list."""
        child = self._children.get(id)
        if child is not None and child.role is None and not child.is_alive:
            del self._children[id]

    def start(
        self,
        id: str,
        argv: list[str],
        environment: dict[str, str],
        *,
        cwd: str | None,
        log: str,
        pass_fds: tuple[int, ...] = (),
        role: Role | None = None,
    ) -> Child:
        """Start a process.

        Raises:
            OSError: It could not be started.
        """
        environment["CLARY_LIFELINE_FD"] = str(self._lifeline_read)
        environment["CLARY_LIFE"] = self._life
        output = open_to_append(log)
        try:
            process = subprocess.Popen(
                argv,
                env=environment,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(self._lifeline_read, *pass_fds),
                process_group=0,
            )
        finally:
            os.close(output)
        child = Child(id=id, process=process, started_at=time.monotonic(), role=role)
        self._children[id] = child
        self._by_pid[process.pid] = child
        return child

    def reap(self) -> list[Child]:
        """Return the children that have died since the last call."""
        dead: list[Child] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return dead
            if pid == 0:
                return dead
            child = self._by_pid.pop(pid, None)
            if child is None:
                continue  # a worker that outlived its host
            child.returncode = os.waitstatus_to_exitcode(status)
            # Popen must not wait for a pid that is reaped, and may be somebody else's by now.
            child.process.returncode = child.returncode
            dead.append(child)

    def signal(self, id: str, number: int, *, group: bool) -> bool:
        """Send a signal to a child, or to its whole group; return whether anyone got it."""
        child = self._children.get(id)
        if child is None:
            return False
        try:
            if group:
                if not child.is_alive and not has_orphans_in_group(child.process.pid):
                    return False
                os.killpg(child.process.pid, number)
            elif child.is_alive:
                os.kill(child.process.pid, number)
            else:
                return False
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def kill_all(self) -> None:
        """Kill every group."""
        for child in list(self._children.values()):
            self.signal(child.id, signal.SIGKILL, group=True)

    def clear(self) -> None:
        """Nothing outlives the supervisor: workers whose host is gone end here."""
        for child in self._children.values():
            if child.role is None:
                self.signal(child.id, signal.SIGKILL, group=True)
        with contextlib.suppress(ChildProcessError):
            deadline = time.monotonic() + LAST_ORPHANS_S
            while time.monotonic() < deadline:
                pid, _ = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    signal.sigtimedwait([signal.SIGCHLD], 0.01)


def become_subreaper() -> None:
    """Take over the children of children that die: no orphan is lost to the system."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def has_orphans_in_group(group: int) -> bool:
    """Whether a process group holds a process that came to us when its parent died.

    Asked before a dead child's group gets a signal: with all its members gone, the number may
    belong to somebody else's group by now.
    """
    me = os.getpid()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    _, parent, its_group, *_ = file.read().rpartition(")")[2].split()
            except OSError:
                continue  # gone meanwhile
            if int(its_group) == group and int(parent) == me:
                return True
    return False


def describe_exit(returncode: int | None) -> str:
    """Say in words how a process ended."""
    if returncode is None:
        return "still running"
    if returncode < 0:
        try:
            return f"killed by {signal.Signals(-returncode).name}"
        except ValueError:
            return f"killed by signal {-returncode}"
    return f"exit status {returncode}"
