"""Real databases for tests: SQLite always, PostgreSQL and MariaDB where an environment variable says where they are.

Each test gets a database of its own there, which is gone afterwards.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

SERVERS = {"postgresql": "DUNNING_TEST_POSTGRES_URL", "mariadb": "DUNNING_TEST_MARIADB_URL"}
KINDS = ("sqlite", *SERVERS)


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """The URL of an empty database; skips aloud where there is no server."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'billing.db'}"
        return
    variable = SERVERS[kind]
    if variable not in os.environ:
        pytest.skip(f"{variable} is not set: nothing is tested against {kind}")
    server = sa.make_url(os.environ[variable])
    name = f"dunning_{uuid.uuid4().hex[:12]}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(f"create database {name}"))
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(sa.text(f"drop database {name}{' with (force)' if kind == 'postgresql' else ''}"))
