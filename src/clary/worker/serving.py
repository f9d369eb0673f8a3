"""A worker of the handler style, from its specification to its last request.

Load, listen, serve, leave. Whatever goes wrong while loading is told to the host in one line of
JSON and to people in the log; the exit status then is ``EXIT_LOAD_FAILED``.
"""

import asyncio
import faulthandler
import json
import logging
import os
import select
import signal
import sys
import threading
import time
import traceback

from clary.status_page import create_page
from clary.worker.batch_server import BatchServer
from clary.worker.handlers.base import HandlerFailed
from clary.worker.handlers.batches import BatchingHandler
from clary.worker.handlers.loading import load_functions
from clary.worker.handlers.traces import format_trace
from clary.worker.server import Server
from clary.worker.spec import ContainerSpec, InstanceSpec, WorkerFiles
from clary.worker.waiting import remember_modules, wait_for_model

EXIT_LOAD_FAILED = 3
STACK_SIGNAL = signal.SIGUSR2
"""Makes a worker write the stacks of its threads to its log; sent before a hung one is killed."""
LISTEN_BACKLOG = 1024


def run_handler(spec: InstanceSpec, container: ContainerSpec, files: WorkerFiles) -> int:
    """Load the user's module and serve it until SIGTERM or the end of the supervisor."""
    _prepare_output()
    watch_lifeline(spec.stop_timeout_s)
    if container.memory_limit_mb:
        from clary.worker.memory_limit import obey_limit  # noqa: PLC0415 (few workers have one)

        obey_limit(container.memory_limit_mb)
    if container.multi_model:
        assigned = wait_for_model(container, files)
        if assigned is None:
            return 0
        container = assigned
    loop = _new_loop()
    asyncio.set_event_loop(loop)
    life = int.from_bytes(os.urandom(4), "big") or 1
    page = create_page(files.status, life)
    # Only now that the page is there does the host send the signal.
    try:
        handler = load_functions(container, loop.run_until_complete)
    except BaseException as error:  # noqa: BLE001 (user code: sys.exit() in it must be reported too)
        report_failure(files.failure, error)
        return EXIT_LOAD_FAILED
    if container.multi_model or container.template:
        remember_modules(files)
    server = (
        BatchServer(handler, page, life, loop)
        if isinstance(handler, BatchingHandler) and handler.is_batching
        else Server(handler, page, life, loop)
    )
    loop.run_until_complete(_serve(server, files.socket))
    loop.close()
    return 0


def _prepare_output() -> None:
    """What the process prints must be in the log when it dies, whatever it dies of."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    faulthandler.enable()
    faulthandler.register(STACK_SIGNAL, all_threads=True)
    # Not basicConfig(): with a handler on the root logger the user's own call of it would do
    # nothing. The handler of last resort writes to stderr until there is another.
    logging.root.setLevel(logging.INFO)
    if logging.lastResort is not None:
        logging.lastResort.setLevel(logging.INFO)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # noqa: PLC0415 (optional: the model's interpreter may have it)
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def watch_lifeline(stop_timeout_s: float) -> None:
    """Stop this process when the supervisor is gone, even if a handler blocks the event loop."""
    number = os.environ.pop("CLARY_LIFELINE_FD", "")
    if not number:
        return
    lifeline = int(number)
    os.set_inheritable(lifeline, False)

    # The host reads the same end of the pipe without blocking, and that is a property of the end,
    # not of a process: a plain read here would fail at once. Nothing is ever written to it, so
    # whatever wakes the poll is its end.
    poller = select.poll()
    poller.register(lifeline, select.POLLIN)

    def wait() -> None:
        poller.poll()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(stop_timeout_s)
        os._exit(1)

    threading.Thread(target=wait, name="clary-lifeline", daemon=True).start()


def report_failure(path: str, error: BaseException) -> None:
    """Print why loading failed, and write it for the host, in one line of JSON."""
    if isinstance(error, HandlerFailed):
        message = str(error)
        trace = message + "\n"
    else:
        message = _describe(error)
        trace = format_trace(error)
    is_final = isinstance(error, (HandlerFailed, SyntaxError)) and getattr(error, "is_final", True)
    sys.stderr.write(trace)
    sys.stderr.flush()
    draft = path + ".tmp"
    with open(draft, "w", encoding="utf-8") as file:
        json.dump({"message": message, "traceback": trace, "final": is_final}, file)
        file.write("\n")
    os.replace(draft, path)


def _describe(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"the handler called sys.exit({error.code!r}) while it was loaded"
    return "".join(traceback.format_exception_only(type(error), error)).strip()


async def _serve(server: Server, path: str) -> None:
    loop = asyncio.get_running_loop()
    told_to_stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, told_to_stop.set)
    try:
        os.unlink(path)  # of a predecessor that was killed
    except FileNotFoundError:
        pass
    listener = await loop.create_unix_server(
        server.connection, path, backlog=LISTEN_BACKLOG, start_serving=False
    )
    os.chmod(path, 0o600)
    await listener.start_serving()
    await told_to_stop.wait()
    listener.close()
    await server.finish()
