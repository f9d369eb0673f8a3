"""Make a database ready for use, or say clearly why it cannot be.

A schema that is current costs one query. Alembic, which takes a while to import, is only loaded for
a database that an older version of Clary left behind.
"""

import os
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from clary.errors import ConfigurationError
from clary.store import schema

_MAX_CHECKED_BYTES = 64 * 1024 * 1024
"""Up to this size the file is checked for damage at each start (about a millisecond a megabyte)."""

_version_table = sa.Table(
    "alembic_version", sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True)
)


def prepare_file(url: sa.URL) -> None:
    """Make a SQLite database's directory and file, readable by the user alone.

    Models' environments may hold secrets. Does nothing for other databases.

    Raises:
        ConfigurationError: The directory or the file cannot be made or written.
    """
    path = _file_of(url)
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise ConfigurationError(
            f"the state database {path} cannot be written ({error.strerror}). Make its directory "
            "writable, or name another one",
            "server.data_dir",
        ) from error


def prepare_schema(engine: Engine) -> None:
    """Make, check or migrate the tables.

    Raises:
        ConfigurationError: The file is damaged or no database, the disk is full, the server cannot
            be reached, or a newer version of Clary wrote it.
    """
    try:
        with engine.begin() as connection:
            _check_file(connection, engine.url)
            inspector = sa.inspect(connection)
            if not inspector.has_table(_version_table.name):
                if inspector.has_table(schema.endpoints.name):
                    raise _damaged(engine.url, "it has tables but no version")
                schema.metadata.create_all(connection)
                _version_table.create(connection)
                connection.execute(_version_table.insert().values(version_num=schema.VERSION))
                return
            found = connection.scalar(sa.select(_version_table.c.version_num))
            if found == schema.VERSION:
                return
            if found is not None and found > schema.VERSION:
                raise ConfigurationError(
                    f"the state database {_name(engine.url)} was written by a newer Clary (schema "
                    f"{found}, this one knows {schema.VERSION}). Install that version, or name "
                    "another data directory",
                    "server.data_dir",
                )
            _migrate(connection)
    except DBAPIError as error:
        raise _explained(engine.url, error) from error
    except SQLAlchemyError as error:
        raise ConfigurationError(f"{_name(engine.url)}: {error}", "store.url") from error


def _migrate(connection: Connection) -> None:
    # Optional and heavy: needed once after an update of Clary.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "clary.store:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _check_file(connection: Connection, url: sa.URL) -> None:
    path = _file_of(url)
    if path is None or path.stat().st_size > _MAX_CHECKED_BYTES:
        return
    verdict = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if verdict != "ok":
        raise _damaged(url, str(verdict))


def _explained(url: sa.URL, error: DBAPIError) -> ConfigurationError:
    cause = str(error.orig)
    if "malformed" in cause or "not a database" in cause:
        return _damaged(url, cause)
    if _file_of(url) is None:
        return ConfigurationError(
            f"the state database {_name(url)} cannot be used ({cause.strip()}). Check that the "
            "server runs and that the URL is right",
            "store.url",
        )
    return ConfigurationError(
        f"the state database {_name(url)} cannot be used ({cause}). Check that its directory is "
        "writable and that the disk has space",
        "server.data_dir",
    )


def _damaged(url: sa.URL, cause: str) -> ConfigurationError:
    return ConfigurationError(
        f"the state database {_name(url)} is damaged ({cause}). Put back a copy, or move the file "
        "and its -wal and -shm neighbours away to start with an empty one",
        "server.data_dir",
    )


def _file_of(url: sa.URL) -> Path | None:
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return None
    return Path(url.database)


def _name(url: sa.URL) -> str:
    return str(_file_of(url) or url.render_as_string(hide_password=True))
