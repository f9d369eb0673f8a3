"""A process that has imported a model's libraries, and from which workers are forked.

Started by the host of a serverless variant (``scaled_host.py``) once a worker has shown which
libraries the model needs (``waiting.remember_modules``). It imports them and waits; each line on
its socket, which is its stdin, is a worker to make::

    host  → {"worker": 3}
    host  ← {"ready": true} | {"unfit": "why"}      once, at first
          ← {"worker": 3, "pid": 77}                for each

Only a process with one thread may be forked: what other threads hold would stay locked for ever in
the child. A template that has more after its imports says so and leaves; workers then start as
they do everywhere. The fork is double, so that the host, which takes over orphans, becomes the
worker's parent and hears of its end.
"""

import gc
import json
import os
import socket
import sys
from typing import Any, Dict, Optional

from clary.worker.serving import run_handler
from clary.worker.spec import ContainerSpec, InstanceSpec, WorkerFiles
from clary.worker.waiting import SEEN_MODULES, preload

TEMPLATE_WORD, WORKER_WORD = "clary-template", "clary-worker"
NUMBER_DIGITS = 8
"""Of the last word of a template's command line. A worker's has two more, so that both command
lines have the same length."""


def run_template(spec: InstanceSpec, container: ContainerSpec) -> int:
    """Make workers until the host has gone; in each of them, return the worker's exit status."""
    host = socket.socket(fileno=os.dup(0))
    _close_stdin()
    preload(os.path.join(spec.run_dir, SEEN_MODULES))
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        _say(host, {"unfit": f"its libraries have started {threads - 1} threads"})
        return 0
    # What is there by now is never freed, so that the children's collectors do not write to it.
    gc.collect()
    gc.freeze()
    _say(host, {"ready": True})
    lines = host.makefile("rb")
    while True:
        line = lines.readline()
        if not line.endswith(b"\n"):
            return 0
        index = int(json.loads(line)["worker"])
        pid = _fork_orphan()
        if pid == 0:
            lines.close()
            host.close()
            _become_worker(index)
            return run_handler(spec, container, WorkerFiles(spec.run_dir, 0, index))
        _say(host, {"worker": index, "pid": pid})


def _say(host: socket.socket, message: Dict[str, Any]) -> None:
    host.sendall(json.dumps(message).encode() + b"\n")


def _close_stdin() -> None:
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)


def _fork_orphan() -> Optional[int]:
    """Return the pid of a grandchild that has lost its parent; 0 in that grandchild itself."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        grandchild = os.fork()
        if grandchild == 0:
            os.close(write_end)
            return 0
        os.write(write_end, b"%d" % grandchild)
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return int(text) if text else None


def _become_worker(index: int) -> None:
    """Make the copy a process of its own: its name, and its random numbers."""
    _rewrite_title(index)
    random = sys.modules.get("numpy.random")
    if random is not None:
        # Python's own generator does so by itself; NumPy's would be the same in every worker.
        random.seed()


def _rewrite_title(index: int) -> None:
    """Write this process's command line over the template's, in place: same length."""
    words = sys.argv[:]
    words[1] = WORKER_WORD
    digits = NUMBER_DIGITS + len(TEMPLATE_WORD) - len(WORKER_WORD)
    words[-1] = str(index).zfill(digits)
    sys.argv[:] = words
    try:
        with open("/proc/self/cmdline", "rb") as file:
            old = file.read()
        new = old.replace(TEMPLATE_WORD.encode(), WORKER_WORD.encode(), 1)
        new = new[: new.rindex(b"\0", 0, -1) + 1] + words[-1].encode() + b"\0"
        if len(new) != len(old):
            return
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        start = int(fields[45])  # arg_start: field 48 of proc(5), counted from 1; these begin at 3
        memory = os.open("/proc/self/mem", os.O_WRONLY)
        try:
            os.pwrite(memory, new, start)
        finally:
            os.close(memory)
    except (OSError, ValueError, IndexError):
        pass  # it serves under the template's name
