"""Alembic's environment: the connection comes from `store.engine.migrate`, or the URL from
BHAVANA_STORE_URL when a developer runs `alembic` by hand (settings lie in pyproject.toml).
"""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import Connection

from store.engine import open_engine
from store.tables import metadata


def run(connection: Connection) -> None:
    """Runs the migrations on this connection."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with open_engine(os.environ["BHAVANA_STORE_URL"], writes=True).begin() as own:
        run(own)
