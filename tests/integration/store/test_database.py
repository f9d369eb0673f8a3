"""Real SQLite: what is durable, what fails together and what does not."""

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.engine import Connection

from clary.errors import ConfigurationError, InvalidRequest
from clary.store import Database, StoreFailed, schema
from clary.store.preparation import _migrate

INSTANCES = schema.tags


def _row(key: str, value: str = "v") -> dict[str, str]:
    return {"kind": "model", "name_key": "m", "key": key, "value": value}


def _insert(key: str, value: str = "v") -> Any:
    def apply(connection: Connection) -> str:
        connection.execute(INSTANCES.insert(), [_row(key, value)])
        return key

    return apply


def _keys(connection: Connection) -> list[str]:
    return list(connection.scalars(sa.select(INSTANCES.c.key).order_by(INSTANCES.c.key)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "state.sqlite"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    opened = Database.open(path)
    yield opened
    opened.close()


def test_what_was_answered_is_seen_by_another_connection(database: Database, path: Path) -> None:
    assert asyncio.run(database.write(_insert("a"))) == "a"

    with sqlite3.connect(path) as other:
        assert other.execute("SELECT key FROM tags").fetchall() == [("a",)]
    other.close()


def test_a_hundred_writes_at_once_are_few_commits(database: Database) -> None:
    commits = []
    sa.event.listen(database._writer, "commit", lambda _: commits.append(1))

    async def story() -> list[str]:
        await asyncio.gather(*(database.write(_insert(f"{i:03}")) for i in range(100)))
        return await database.read(_keys)

    assert asyncio.run(story()) == [f"{i:03}" for i in range(100)]
    assert len(commits) < 50


def test_one_write_that_raises_undoes_itself_and_no_neighbour(database: Database) -> None:
    def refuse(connection: Connection) -> None:
        connection.execute(INSTANCES.insert(), [_row("half")])
        raise InvalidRequest("no")

    async def story() -> tuple[list[Any], list[str]]:
        outcomes = await asyncio.gather(
            database.write(_insert("a")),
            database.write(refuse),
            database.write(_insert("b")),
            database.write(_insert("a")),  # breaks the primary key
            database.write(_insert("c")),
            return_exceptions=True,
        )
        return outcomes, await database.read(_keys)

    outcomes, keys = asyncio.run(story())
    assert [type(o) for o in outcomes] == [str, InvalidRequest, str, StoreFailed, str]
    assert keys == ["a", "b", "c"]


def test_the_notice_of_a_commit_comes_before_the_answer_even_to_a_cancelled_caller(
    database: Database,
) -> None:
    async def story() -> None:
        told: list[str] = []
        heard = asyncio.Event()

        def tell(key: str) -> None:
            told.append(key)
            heard.set()

        await database.write(_insert("a"), after_commit=tell)
        assert told == ["a"]

        heard.clear()
        caller = asyncio.create_task(database.write(_insert("b"), after_commit=tell))
        await asyncio.sleep(0)
        caller.cancel()
        await asyncio.wait_for(heard.wait(), 5)
        assert told == ["a", "b"]
        assert await database.read(_keys) == ["a", "b"]

    asyncio.run(story())


def test_a_full_disk_fails_the_call_clearly_and_leaves_nothing_half_written(
    database: Database,
) -> None:
    def limit(pages: int) -> Any:
        def apply(connection: Connection) -> None:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

        return apply

    async def story() -> None:
        await database.write(_insert("before"))
        await database.write(limit(1))  # SQLite takes the present size: not a page more
        small, big = _insert("small"), _insert("big", "x" * 1_000_000)
        outcomes = await asyncio.gather(
            database.write(small), database.write(big), return_exceptions=True
        )
        assert isinstance(outcomes[1], StoreFailed)
        assert "full" in outcomes[1].message
        assert "Nothing was changed" in outcomes[1].message
        assert outcomes[0] == "small"
        assert await database.read(_keys) == ["before", "small"]

        await database.write(limit(1_000_000))
        await database.write(big)
        assert await database.read(_keys) == ["before", "big", "small"]

    asyncio.run(story())


def test_after_closing_calls_are_refused(path: Path) -> None:
    database = Database.open(path)
    database.close()
    database.close()

    with pytest.raises(StoreFailed, match="closed"):
        asyncio.run(database.write(_insert("a")))
    with pytest.raises(StoreFailed, match="closed"):
        asyncio.run(database.read(_keys))


def test_reading_goes_on_while_a_write_is_under_way(database: Database) -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        began, finish = asyncio.Event(), asyncio.Event()

        def slow(connection: Connection) -> None:
            _insert("a")(connection)
            loop.call_soon_threadsafe(began.set)
            asyncio.run_coroutine_threadsafe(finish.wait(), loop).result(5)

        write = asyncio.create_task(database.write(slow))
        await began.wait()
        assert await database.read(_keys) == []
        finish.set()
        await write
        assert await database.read(_keys) == ["a"]

    asyncio.run(story())


def test_the_file_is_for_its_owner_alone(database: Database, path: Path) -> None:
    assert path.stat().st_mode & 0o077 == 0


def test_a_fresh_database_is_what_the_migrations_make() -> None:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        _migrate(connection)
        version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "target_metadata": schema.metadata}
        )
        differences = compare_metadata(context, schema.metadata)
    engine.dispose()

    assert version == schema.VERSION
    assert differences == []


def test_an_older_database_is_migrated_when_it_is_opened(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as old:  # the state before revision 0001
        old.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
    old.close()

    database = Database.open(path)
    asyncio.run(database.write(_insert("a")))
    database.close()


def test_a_database_of_a_newer_version_is_left_alone(path: Path) -> None:
    Database.open(path).close()
    with sqlite3.connect(path) as newer:
        newer.execute("UPDATE alembic_version SET version_num = '9999'")
    newer.close()

    with pytest.raises(ConfigurationError, match=r"newer Clary .*9999"):
        Database.open(path)


def test_opening_again_needs_no_alembic(path: Path) -> None:
    import subprocess
    import sys

    script = (
        "import sys; from clary.store import Database; "
        f"[Database.open({str(path)!r}).close() for _ in range(2)]; print('alembic' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    "content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\1" * 5000]
)
def test_a_damaged_file_is_named_with_what_to_do(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)

    with pytest.raises(ConfigurationError, match="is damaged") as refused:
        Database.open(path)

    assert str(path) in refused.value.message
    assert "move the file" in refused.value.message
    assert path.read_bytes() == content


def test_a_truncated_file_is_found_at_the_start(path: Path) -> None:
    Database.open(path).close()
    path.write_bytes(path.read_bytes()[:8192])

    with pytest.raises(ConfigurationError, match="is damaged"):
        Database.open(path)


def test_a_directory_that_cannot_be_made_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError, match="cannot be written") as refused:
        Database.open(tmp_path / "file" / "state.sqlite")

    assert str(tmp_path / "file" / "state.sqlite") in refused.value.message
    assert "Make its directory writable" in refused.value.message
