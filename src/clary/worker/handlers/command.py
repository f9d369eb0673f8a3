"""The handler style of a user's own server: any command that listens on SAGEMAKER_BIND_TO_PORT.

This worker is only the server's keeper: it finds a free port, starts the command, tells the host
the address, hands signals on and leaves with the server's exit status. Routers talk to the server
itself. A port that is taken between the look and the command's bind ends the command; it is started
again with another one like after any other death.
"""

import ctypes
import os
import select
import signal
import socket
import sys
from typing import Dict, NoReturn

from clary.worker.spec import ContainerSpec, InstanceSpec, WorkerFiles

HOST = "127.0.0.1"
PR_SET_PDEATHSIG = 1
EXIT_NOT_FOUND = 127


def run_command(spec: InstanceSpec, container: ContainerSpec, files: WorkerFiles) -> int:
    """Run the command until it ends; return its exit status."""
    lifeline = int(os.environ.pop("CLARY_LIFELINE_FD", "-1"))
    if lifeline >= 0:
        os.set_inheritable(lifeline, False)
    port = free_port()
    environment = {**os.environ, "SAGEMAKER_BIND_TO_PORT": str(port)}
    # Before the server is there: SIGCHLD must not be lost between the fork and the wait.
    wake_read, wake_write = socket.socketpair()
    wake_read.setblocking(False)
    wake_write.setblocking(False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, lambda number, frame: None)
    signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
    pid = _start(container, environment)
    _write_address(files.address, f"http:{HOST}:{port}")
    return _keep(pid, wake_read, lifeline, spec.stop_timeout_s)


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _write_address(path: str, address: str) -> None:
    draft = path + ".tmp"
    with open(draft, "w", encoding="utf-8") as file:
        file.write(address + "\n")
    os.replace(draft, path)


def _start(container: ContainerSpec, environment: Dict[str, str]) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    keeper = os.getpid()
    # fork and not posix_spawn: the death signal can only be asked for by the child itself. This
    # process has one thread, so that forking it is safe.
    pid = os.fork()
    if pid == 0:
        _become_server(container, environment, libc, keeper)
    return pid


def _become_server(
    container: ContainerSpec, environment: Dict[str, str], libc: ctypes.CDLL, keeper: int
) -> NoReturn:
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        # A server must not outlive its keeper, however that ends.
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != keeper:
            os._exit(1)
        os.execvpe(container.argv[0], container.argv, environment)  # noqa: S606 (no shell wanted)
    except OSError as error:
        sys.stderr.write(f"cannot start {container.argv[0]}: {error.strerror}\n")
        sys.stderr.flush()
    finally:
        os._exit(EXIT_NOT_FOUND)


def _keep(pid: int, wake: socket.socket, lifeline: int, stop_timeout_s: float) -> int:
    """Wait for the end of the server, handing signals on; return its exit status."""
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    if lifeline >= 0:
        poll.register(lifeline, select.POLLIN)
    pause_ms = None
    while True:
        events = poll.poll(pause_ms)
        if not events:
            os.kill(pid, signal.SIGKILL)
        for descriptor, _ in events:
            if descriptor == lifeline:
                poll.unregister(lifeline)
                pause_ms = stop_timeout_s * 1000
                os.kill(pid, signal.SIGTERM)
                continue
            numbers = wake.recv(4096)
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return _exit_status(status)
            for number in (signal.SIGTERM, signal.SIGINT):
                if number in numbers:
                    os.kill(pid, number)


def _exit_status(wait_status: int) -> int:
    """Return the shell's number for how a process ended."""
    if os.WIFSIGNALED(wait_status):
        return 128 + os.WTERMSIG(wait_status)
    return os.WEXITSTATUS(wait_status)
