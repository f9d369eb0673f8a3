"""The state database: one writer that commits in groups, a few readers.

Callers hand over functions of a connection and await their result::

    await database.write(lambda connection: connection.execute(...))

**Writes** run one after another in one thread. Whatever is queued while a commit is under way
becomes the next transaction, each function in a savepoint of its own, so that a hundred callers pay
for one fsync and a function that raises undoes only its own work. A caller hears of success after
the commit, never before: what was answered is durable.

**Reads** run in a small pool, each in a transaction of its own, and see the last commit.

This module is the only one that knows which database it is. SQLite is prepared here (WAL, full
sync, foreign keys); everything else in ``store`` is portable SQLAlchemy Core.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from clary.errors import TransientError
from clary.store.preparation import prepare_file, prepare_schema
from clary.store.sqlite_turns import begin_writing

T = TypeVar("T")

_log = logging.getLogger(__name__)

MAX_GROUP = 512
"""Most writes of one transaction: bounds how long the first of them waits for the last."""

READERS = 4
"""Threads, and connections, for reads."""


class StoreFailed(TransientError):
    """The database could not do it (disk full, I/O error, connection lost). Nothing was changed."""


@dataclass(slots=True)
class _Write:
    """One queued write and whom to tell."""

    apply: Callable[[Connection], Any]
    after_commit: Callable[[Any], None] | None
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    result: Any = None
    error: BaseException | None = None


class Database:
    """The state database of one server."""

    def __init__(self, writer: Engine, reader: Engine) -> None:
        """Use ``open``; this takes engines whose schema is already current."""
        self._writer = writer
        self._reader = reader
        self._writes: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._closed = False
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-read")
        self._thread = threading.Thread(target=self._run_writes, name="store-write", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, location: str | Path) -> "Database":
        """Open a database, bring its schema up to date, and start its threads.

        Blocks (tens of milliseconds when the schema is current): call it before serving.

        Args:
            location: Path of a SQLite file, or an SQLAlchemy URL.

        Raises:
            ConfigurationError: It cannot be opened, read or written, or was written by a newer
                version of Clary. The message says what to do.
        """
        url = _url(location)
        prepare_file(url)
        writer = _engine(url, pool_size=1, begin=begin_writing)
        reader = _engine(url, pool_size=READERS, begin=_begin_reading)
        try:
            prepare_schema(writer)
        except BaseException:
            writer.dispose()
            reader.dispose()
            raise
        return cls(writer, reader)

    def close(self) -> None:
        """Finish what is queued and close all connections. Blocks until done."""
        if self._closed:
            return
        self._closed = True
        self._writes.put(None)
        self._thread.join()
        self._readers.shutdown()
        self._writer.dispose()
        self._reader.dispose()

    async def write(
        self,
        apply: Callable[[Connection], T],
        *,
        after_commit: Callable[[T], None] | None = None,
    ) -> T:
        """Run a function in a write transaction and return its result once that is durable.

        Args:
            apply: Reads and writes through the connection, and through nothing else: it runs in
                another thread, and a second time when the transaction that it was grouped into
                could not be committed. What it raises undoes its writes and is raised here.
            after_commit: Called with the result on the event loop, right after the commit and
                before this returns; also when the caller was cancelled meanwhile.

        Raises:
            StoreFailed: The database refused. Nothing was changed.

        Cancelling does not take the write back.
        """
        if self._closed:
            raise StoreFailed("The state database is closed.")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._writes.put(_Write(apply, after_commit, future, loop))
        return await future

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a function in a read transaction and return its result.

        Raises:
            StoreFailed: The database refused.
        """
        if self._closed:
            raise StoreFailed("The state database is closed.")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, query)

    def _read(self, query: Callable[[Connection], T]) -> T:
        try:
            with self._reader.connect() as connection:
                return query(connection)
        except SQLAlchemyError as error:
            raise _failed("read", error) from error

    def _run_writes(self) -> None:
        closing = False
        while not closing:
            group: list[_Write] = []
            item = self._writes.get()
            while item is not None:
                group.append(item)
                if len(group) >= MAX_GROUP:
                    break
                try:
                    item = self._writes.get_nowait()
                except queue.Empty:
                    break
            closing = item is None
            if group:
                self._commit(group)
                _tell(group)

    def _commit(self, group: list[_Write]) -> None:
        """Commit a group; when the database refuses, each of its members alone."""
        if len(group) == 1:
            self._commit_alone(group[0])
            return
        try:
            self._commit_together(group)
        except Exception:  # noqa: BLE001 - whatever it is, the one writer goes on
            for write in group:
                self._commit_alone(write)

    def _commit_alone(self, write: _Write) -> None:
        # Without a savepoint, which is a good part of the time of a short write.
        write.result = write.error = None
        try:
            with self._writer.connect() as connection, connection.begin():
                write.result = write.apply(connection)
        except SQLAlchemyError as error:
            write.error = _failed("write", error)
            write.error.__cause__ = error
        except Exception as error:  # noqa: BLE001 - belongs to the caller, who gets it
            write.error = error

    def _commit_together(self, group: list[_Write]) -> None:
        with self._writer.connect() as connection, connection.begin():
            for write in group:
                write.result = write.error = None
                savepoint = connection.begin_nested()
                try:
                    write.result = write.apply(connection)
                    savepoint.commit()
                except IntegrityError as error:
                    savepoint.rollback()
                    write.error = _failed("write", error)
                    write.error.__cause__ = error
                except SQLAlchemyError:
                    # SQLite rolls back the whole transaction on some errors (disk full, I/O), the
                    # work of neighbours and the savepoint included.
                    raise
                except Exception as error:  # noqa: BLE001 - belongs to the caller, who gets it
                    savepoint.rollback()
                    write.error = error


def _tell(group: list[_Write]) -> None:
    """Wake the callers, with one call for each event loop."""
    loops = {write.loop for write in group}
    for loop in loops:
        outcomes = [write for write in group if write.loop is loop]
        try:
            loop.call_soon_threadsafe(_resolve, outcomes)
        except RuntimeError:  # the loop was closed: nobody waits any more
            _log.debug("%d writes were committed for a closed event loop", len(outcomes))


def _resolve(writes: list[_Write]) -> None:
    for write in writes:
        if write.error is None and write.after_commit is not None:
            write.after_commit(write.result)
        if write.future.done():
            continue
        if write.error is not None:
            write.future.set_exception(write.error)
        else:
            write.future.set_result(write.result)


def _failed(what: str, error: Exception) -> StoreFailed:
    cause = error.orig if isinstance(error, DBAPIError) else error
    _log.error("state database: cannot %s: %s", what, error)
    return StoreFailed(f"The state database cannot {what} ({cause}). Nothing was changed.")


def _url(location: str | Path) -> sa.URL:
    if isinstance(location, Path) or "://" not in location:
        return sa.URL.create("sqlite", database=str(location))
    return sa.make_url(location)


def _begin_reading(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _engine(url: sa.URL, *, pool_size: int, begin: Callable[[Connection], None]) -> Engine:
    is_sqlite = url.get_backend_name() == "sqlite"
    engine = sa.create_engine(
        url,
        poolclass=sa.QueuePool,
        pool_size=pool_size,
        max_overflow=0,
        pool_pre_ping=not is_sqlite,
        # Connections move between the threads of the pool, never used by two at once.
        connect_args={"check_same_thread": False} if is_sqlite else {},
    )
    if is_sqlite:
        event.listen(engine, "connect", _set_up_sqlite)
        # sqlite3 opens transactions only before INSERT and the like, which leaves reads and
        # savepoints outside. We begin them ourselves.
        event.listen(engine, "begin", begin)
    return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout = 5000")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()
