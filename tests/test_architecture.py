"""The shape of the house: who imports whom, what loads torch, what the README shows."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("store", "scorers", "converters", "trainer", "daemon")
"""In import order: a room may use those before it, never those after it."""


def imports_of(path: Path) -> set[str]:
    """The top-level names that a file imports, lazily or not."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_to_its_left(room):
    """Import order is data order."""
    to_the_right = set(ROOMS[ROOMS.index(room) + 1 :])

    wrong = {
        str(path.relative_to(ROOT)): found
        for path in (ROOT / room).rglob("*.py")
        if (found := imports_of(path) & to_the_right)
    }

    assert wrong == {}


def test_no_room_imports_the_tests():
    """Stand-ins live in tests/ and never reach the product."""
    wrong = [p for room in ROOMS for p in (ROOT / room).rglob("*.py") if "tests" in imports_of(p)]

    assert wrong == []


def test_the_daemons_process_loads_no_torch():
    """Everything that the daemon imports stays light; models live in child processes."""
    code = (
        "import daemon.cli.verbs, daemon.demo, daemon.service, daemon.report, sys;"
        "print([m for m in ('torch', 'transformers', 'peft', 'sklearn') if m in sys.modules])"
    )

    seen = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert seen.stdout.strip() == "[]"


def test_the_way_back_loads_only_what_it_needs():
    """Harm is undone as fast as that process starts."""
    slow = ("scipy", "alembic", "converters", "fastapi", "gguf")
    code = f"import daemon.cli.rollback, sys; print([m for m in {slow} if m in sys.modules])"

    seen = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert seen.stdout.strip() == "[]"


def test_no_other_distribution_claims_our_package_names():
    """python-daemon installs `daemon`, for one: it would silently replace ours."""
    claims = packages_distributions()

    foreign = {room: claims.get(room, []) for room in ROOMS}

    assert {r: [d for d in names if d != "bhavana"] for r, names in foreign.items()} == {
        room: [] for room in ROOMS
    }


def test_nothing_is_unpickled():
    """No pickle, ever: not by us, and not through torch.load or joblib."""
    wrong = [
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if imports_of(path) & {"pickle", "joblib", "dill", "cloudpickle"}
        or "torch.load(" in path.read_text()
    ]

    assert wrong == []


def test_the_readme_names_every_roster_entry():
    """A newcomer on a roster is told to the readers, too."""
    from converters import FORMATS, PREFERENCES
    from converters.imports import IMPORTS
    from scorers import SCORERS
    from trainer.gates import GATES
    from trainer.targets import TARGETS

    readme = (ROOT / "README.md").read_text()

    rosters = [*SCORERS, *FORMATS, *PREFERENCES, *IMPORTS, *GATES, *TARGETS]
    assert [name for name in rosters if f"`{name}`" not in readme] == []


def test_the_readme_shows_every_file_of_the_house():
    """The tree in the README has a phrase for each module, and no module that is gone."""
    readme = (ROOT / "README.md").read_text()

    modules = {
        path.name
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if path.name not in ("__init__.py", "__main__.py")
    }
    assert sorted(name for name in modules if name not in readme) == []


def test_every_dependency_is_pinned():
    """What pyproject.toml names stands in requirements.lock with an exact version."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [
        d for extra in project["optional-dependencies"].values() for d in extra
    ]
    lock = (ROOT / "requirements.lock").read_text().lower().replace("_", "-")

    names = [d.split("[")[0].split("=")[0].split("<")[0].split(">")[0].lower() for d in wanted]
    assert [n for n in names if f"\n{n}==" not in lock] == []
