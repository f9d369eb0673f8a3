"""The metadata of all objects, in one SQLite database; the bytes of small objects lie in it, too.

All changes go through one thread that takes whatever is waiting, makes one transaction of it and
answers when that is on the disk (a group commit): one fsync serves all clients that write at once,
and a 1 KB PutObject costs one fsync in all. Readers see a snapshot (write-ahead log) and wait for
nobody.
"""

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from clary.errors import ConfigurationError
from clary.objects.faults import disk_full

T = TypeVar("T")

SCHEMA_VERSION = 1
MAX_BATCH = 256
"""Most changes in one transaction."""
QUICK_CHECK_BYTES = 16 * 1024**2
"""Databases up to this size are checked from end to end at the start."""

_BUSY_S = 30.0
_CACHE_KIB = 8 * 1024

_log = logging.getLogger(__name__)

# Keys are BLOBs: S3 lists them in the order of their UTF-8 bytes, and they may hold anything.
_SCHEMA = """
CREATE TABLE buckets (
    name TEXT PRIMARY KEY,
    created_at REAL NOT NULL,
    region TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE bucket_documents (
    bucket TEXT NOT NULL,
    kind TEXT NOT NULL,
    document BLOB NOT NULL,
    PRIMARY KEY (bucket, kind)
) WITHOUT ROWID;
CREATE TABLE objects (
    bucket TEXT NOT NULL,
    key BLOB NOT NULL,
    content INTEGER NOT NULL,
    size INTEGER NOT NULL,
    etag TEXT NOT NULL,
    modified_at REAL NOT NULL,
    attributes TEXT NOT NULL,
    PRIMARY KEY (bucket, key)
) WITHOUT ROWID;
CREATE TABLE uploads (
    id TEXT PRIMARY KEY,
    bucket TEXT NOT NULL,
    key BLOB NOT NULL,
    content INTEGER NOT NULL,
    started_at REAL NOT NULL,
    attributes TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX uploads_by_key ON uploads (bucket, key, id);
CREATE TABLE pieces (
    content INTEGER NOT NULL,
    number INTEGER NOT NULL,
    size INTEGER NOT NULL,
    etag TEXT NOT NULL,
    modified_at REAL NOT NULL,
    checksums TEXT NOT NULL,
    file TEXT,
    data BLOB,
    PRIMARY KEY (content, number)
);
"""


class Transaction:
    """What a change may do: SQL, and things to be done once it is durable."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.after_commit: list[Callable[[], None]] = []

    def execute(self, sql: str, parameters: Iterable[Any] = ()) -> sqlite3.Cursor:
        return self._connection.execute(sql, tuple(parameters))


@dataclass(slots=True)
class _Change:
    function: Callable[[Transaction], Any]
    on_failure: Callable[[], None] | None
    future: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop
    result: Any = None
    error: BaseException | None = None


class Database:
    """See the module.

    Args:
        path: The file; made when it is not there.

    Raises:
        ConfigurationError: It cannot be written, is of a newer Clary, or is corrupt.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._changes: queue.SimpleQueue[_Change | None] = queue.SimpleQueue()
        self.is_new = False
        """Whether the file was made just now."""
        writer = self._open()
        self._thread = threading.Thread(
            target=self._run, args=(writer,), name="objects-writer", daemon=True
        )
        self._thread.start()

    def reader(self) -> sqlite3.Connection:
        """Return this thread's connection for reading."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._connect()
            connection.execute("PRAGMA query_only = 1")
            self._local.connection = connection
        return connection

    async def write(
        self, change: Callable[[Transaction], T], *, on_failure: Callable[[], None] | None = None
    ) -> T:
        """Make a change durable; return what the function returned.

        It runs in the writer's thread, all of it or nothing, and sees all changes before it.
        Cancelling does not stop it.

        Args:
            change: What to do. It may raise to undo what it did.
            on_failure: What to do when it is not made, such as removing files; runs in the
                writer's thread, so that it is right even when the caller has gone.

        Raises:
            Fault: ``InsufficientStorage``: the disk is full.
        """
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[T] = loop.create_future()
        self._changes.put(_Change(change, on_failure, waiting, loop))
        return await waiting

    def close(self) -> None:
        """Finish the changes that are waiting, and close. Call from the thread that reads."""
        self._changes.put(None)
        self._thread.join()
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    # Opening ------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        # Transactions are ours alone; connections of the writer are made in another thread.
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        return connection

    def _open(self) -> sqlite3.Connection:
        connection = None
        try:
            connection = self._connect()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > SCHEMA_VERSION:
                raise ConfigurationError(
                    f"{self._path} was written by a newer version of Clary (format {version}, "
                    f"this one knows {SCHEMA_VERSION})"
                )
            if version == 0:
                self.is_new = True
                connection.executescript(
                    f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
                )
            elif self._path.stat().st_size <= QUICK_CHECK_BYTES:
                (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                if answer != "ok":
                    raise sqlite3.DatabaseError(answer)
            # Finds out now, and not at the first upload, that nothing can be written.
            connection.executescript("BEGIN IMMEDIATE; ROLLBACK;")
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            raise self._explain(error) from error
        except ConfigurationError:
            if connection is not None:
                connection.close()
            raise
        return connection

    def _explain(self, error: sqlite3.Error) -> ConfigurationError:
        name = getattr(error, "sqlite_errorname", "") or ""
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            return ConfigurationError(f"{self._path} cannot be written: {error}")
        if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
            return ConfigurationError(f"{self._path} cannot be opened: {error}")
        return ConfigurationError(
            f"{self._path} is corrupt: {error}. Restore it from a backup, or move it away to start "
            "with an empty S3 (the bytes of objects then remain below it until the next start)"
        )

    # Writing ------------------------------------------------------------------------------

    def _run(self, connection: sqlite3.Connection) -> None:
        while True:
            change = self._changes.get()
            is_last = change is None
            batch = [] if change is None else [change]
            while not is_last and len(batch) < MAX_BATCH:
                try:
                    change = self._changes.get_nowait()
                except queue.Empty:
                    break
                if change is None:
                    is_last = True
                else:
                    batch.append(change)
            if batch:
                self._commit(connection, batch)
            if is_last:
                break
        connection.close()

    def _commit(self, connection: sqlite3.Connection, batch: list[_Change]) -> None:
        after_commit: list[Callable[[], None]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for change in batch:
                transaction = Transaction(connection)
                self._apply(connection, change, transaction, alone=len(batch) == 1)
                if change.error is None:
                    after_commit += transaction.after_commit
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            _log.exception("a transaction failed; its %d changes are undone", len(batch))
            for change in batch:
                change.error = change.error or _translate(error)
            after_commit = []
        for change in batch:
            if change.error is not None and change.on_failure is not None:
                change.on_failure()
            change.loop.call_soon_threadsafe(_settle, change)
        for action in after_commit:
            action()

    def _apply(
        self,
        connection: sqlite3.Connection,
        change: _Change,
        transaction: Transaction,
        *,
        alone: bool,
    ) -> None:
        """Run one change. When it raises, only what it did itself is undone.

        Raises:
            sqlite3.Error: The whole transaction has come to its end.
        """
        if not alone:
            connection.execute("SAVEPOINT change")
        try:
            change.result = change.function(transaction)
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001 - handed to who waits for it
            change.error = error
            if alone:
                connection.execute("ROLLBACK")
                connection.execute("BEGIN IMMEDIATE")
            else:
                connection.execute("ROLLBACK TO change")
        if not alone:
            connection.execute("RELEASE change")


def _settle(change: _Change) -> None:
    if change.future.done():
        return  # who waited has gone; the change is made all the same
    if change.error is not None:
        change.future.set_exception(change.error)
    else:
        change.future.set_result(change.result)


def _translate(error: sqlite3.Error) -> Exception:
    name = getattr(error, "sqlite_errorname", "") or ""
    # A write that the disk refuses is reported as an I/O error by some file systems.
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR_WRITE")):
        return disk_full()
    return error
