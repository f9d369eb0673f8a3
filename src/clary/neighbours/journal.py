"""The calls that have made the state, durable: read at the start, appended to after each call.

A SQLite file of its own beside the state database, for this process alone writes it. What a call
makes superfluous (``journal_rule``) goes in the same transaction, so the file is always compact.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clary.neighbours.calls import Call
from clary.neighbours.journal_rule import Change

_TABLES = """
CREATE TABLE IF NOT EXISTS calls (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at_us INTEGER NOT NULL,
    seed TEXT NOT NULL,
    call TEXT NOT NULL,
    body BLOB NOT NULL,
    slot TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS calls_slot ON calls (slot);
CREATE TABLE IF NOT EXISTS subjects (
    subject TEXT NOT NULL,
    seq INTEGER NOT NULL REFERENCES calls (seq) ON DELETE CASCADE,
    PRIMARY KEY (subject, seq)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS subjects_seq ON subjects (seq);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A call with what makes its outcome the same each time."""

    call: Call
    at_us: int
    """When it was done, in microseconds since 1970."""
    seed: str
    """What its random ids come from."""


class Journal:
    """The file. Its methods block, and may be called from any one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Open the file, made when it is not there.

        Raises:
            sqlite3.Error: It cannot be read or written.
        """
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._connection.executescript(_TABLES)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def write(self, entry: Entry, change: Change) -> None:
        """Do what a call does to the journal; durable when this returns.

        Raises:
            sqlite3.Error: The disk refused. Nothing was changed.
        """
        with self._transaction() as connection:
            if change.drops_slot:
                connection.execute("DELETE FROM calls WHERE slot = ?", (change.drops_slot,))
            if change.drops_subject:
                connection.execute(
                    "DELETE FROM calls WHERE seq IN (SELECT seq FROM subjects WHERE subject = ?)",
                    (change.drops_subject,),
                )
            if not change.is_written:
                return
            if change.slot and change.keeps_first:
                found = connection.execute("SELECT 1 FROM calls WHERE slot = ?", (change.slot,))
                if found.fetchone() is not None:
                    return
            elif change.slot:
                connection.execute("DELETE FROM calls WHERE slot = ?", (change.slot,))
            seq = connection.execute(
                "INSERT INTO calls (at_us, seed, call, body, slot) VALUES (?, ?, ?, ?, ?)",
                (entry.at_us, entry.seed, entry.call.to_json(), entry.call.body, change.slot),
            ).lastrowid
            connection.executemany(
                "INSERT INTO subjects (subject, seq) VALUES (?, ?)",
                [(subject, seq) for subject in sorted(change.subjects)],
            )

    def read(self) -> Iterator[Entry]:
        """Yield all entries, oldest first."""
        rows = self._connection.execute("SELECT at_us, seed, call, body FROM calls ORDER BY seq")
        for at_us, seed, call, body in rows:
            yield Entry(call=Call.from_json(call, body), at_us=at_us, seed=seed)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
