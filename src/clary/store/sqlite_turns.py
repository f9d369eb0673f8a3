"""How a writer of SQLite waits for its turn.

SQLite lets one process write at a time. Its own way of waiting sleeps longer and longer, up to a
tenth of a second, while the others' transactions take a few milliseconds: whoever has waited long
loses to whoever comes next. Here each look is as soon after the last as the one before.
"""

import sqlite3
import time

from sqlalchemy.engine import Connection

BEGIN = "BEGIN IMMEDIATE"
"""Takes the right to write at once: a transaction that turns from reading to writing can be refused
half-way."""

BUSY_S = 5.0
"""How long a turn is waited for, in seconds."""

LOOK_S = 0.0005


def begin_writing(connection: Connection) -> None:
    """Begin a transaction when no other process is in one.

    Raises:
        sqlalchemy.exc.OperationalError: Another has been in one for too long.
    """
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    until = time.monotonic() + BUSY_S
    raw.execute("PRAGMA busy_timeout = 0")
    try:
        while time.monotonic() < until:
            try:
                raw.execute(BEGIN)
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    break
            time.sleep(LOOK_S)
        connection.exec_driver_sql(BEGIN)  # fails in the way of all other statements
    finally:
        raw.execute(f"PRAGMA busy_timeout = {BUSY_S * 1000:.0f}")
