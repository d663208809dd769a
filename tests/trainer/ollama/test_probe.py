"""The probe tells a server that says what was trained from one that does something else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from store.errors import ProbeFailed
from tests.ollama_stand_in.server import StandIn
from tests.tiny_releases import RANK, Foretold, Prepared, adapter, delivery, forced
from trainer.base import Base, locate
from trainer.gguf import lora
from trainer.jobs import Position
from trainer.targets.ollama.base import bare_base
from trainer.targets.ollama.client import Ollama
from trainer.targets.ollama.era import era_of
from trainer.targets.ollama.probe import probe
from trainer.targets.ollama.settings import OllamaSettings
from trainer.targets.ollama.target import OllamaTarget
from trainer.targets.target import Delivery

MakeTarget = Callable[..., OllamaTarget]
OLD = era_of("0.12.10")
"""The last that tells no log-probabilities."""


@pytest.fixture
def ollama(stand_in: StandIn) -> Iterator[Ollama]:
    """Its API, by hand."""
    with Ollama(OllamaSettings(url=stand_in.url)) as opened:
        yield opened


@pytest.fixture(scope="session")
def positions(ready: Prepared) -> tuple[Position, ...]:
    """What the first release should say."""
    return ready.positions["one"]


Planted = Callable[[pytest.MonkeyPatch], None]


def wrong_rows(patch: pytest.MonkeyPatch) -> None:
    """The rows of q and k as PEFT has them, as Ollama's own converter leaves them."""
    patch.setattr("trainer.gguf.architectures._REORDERED", {})


def no_alpha(patch: pytest.MonkeyPatch) -> None:
    """llama.cpp takes it for a scale of 1, where 2 is right."""
    _write_alpha(patch, lambda _alpha: 0.0)


def alpha_as_scale(patch: pytest.MonkeyPatch) -> None:
    """As if nobody divided by the rank."""
    _write_alpha(patch, lambda alpha: alpha * RANK)


def _write_alpha(patch: pytest.MonkeyPatch, wrong: Callable[[float], float]) -> None:
    write = lora._write
    patch.setattr(lora, "_write", lambda path, a, alpha, s: write(path, a, wrong(alpha), s))


def model_with(
    ollama: Ollama, folder: Path, made: Delivery, *, parent: str = "", adapted: bool = True
) -> str:
    """Makes a model by hand: of the bare base or of a parent, with the adapter or without."""
    bare = bare_base(made.base, OllamaSettings())
    bare.ensure(ollama)
    document: dict[str, object] = {"from": parent or bare.tag}
    if adapted:
        file = lora.write_lora(Path(made.adapter), made.base, folder / "planted.gguf")
        ollama.upload(Path(file.path), file.sha256)
        document["adapters"] = {"adapter.gguf": f"sha256:{file.sha256}"}
    ollama.create("bhavana:planted", document)
    return "bhavana:planted"


@pytest.mark.parametrize(
    "version",
    [*(pytest.param(v, marks=pytest.mark.slow) for v in ("0.24.0", "0.33.0-rc2")), "0.34.1"],
)
def test_a_sound_release_passes_in_every_era(
    version: str, tmp_path: Path, make: MakeTarget, first: Delivery, references: Foretold
) -> None:
    """It is as near to the trained model as rounding lets it be, and far from the base."""
    with StandIn(tmp_path / "era", version) as server:
        target = make(url=server.url)
        target.preflight(first)
        target.publish(first)
        figures = target.probe(first, references)

    assert figures["positions"] >= 50
    assert figures["greedy"] >= 0.98
    assert figures["kl"] < 0.003 < 0.01 < figures["kl_base"]
    assert 0.95 < figures["strength"] < 1.05


@pytest.mark.parametrize(
    "planted", [wrong_rows, pytest.param(no_alpha, marks=pytest.mark.slow), alpha_as_scale]
)
def test_catches_an_adapter_written_wrongly(
    planted: Planted, ollama: Ollama, tmp_path: Path, first: Delivery,
    positions: tuple[Position, ...], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A server loads it gladly and answers fluently."""
    planted(monkeypatch)
    monkeypatch.setattr(lora, "require_same", lambda *_: None)
    model = model_with(ollama, tmp_path, first)
    with pytest.raises(ProbeFailed, match="does not answer like the model that was trained"):
        probe(ollama, model, positions, ollama.era())


def test_catches_a_missing_adapter(
    ollama: Ollama, tmp_path: Path, first: Delivery, positions: tuple[Position, ...]
) -> None:
    """The bare base under the release's name."""
    model = model_with(ollama, tmp_path, first, adapted=False)
    with pytest.raises(ProbeFailed, match=r"served at -?0\.0\d of its strength"):
        probe(ollama, model, positions, ollama.era())


def test_catches_a_server_that_ignores_adapters(
    stand_in: StandIn, make: MakeTarget, first: Delivery, references: Foretold
) -> None:
    """It has it, says so, and does not add it."""
    target = make()
    target.publish(first)
    stand_in.runners.scale = 0.0
    with pytest.raises(ProbeFailed, match="does not answer like"):
        target.probe(first, references)


def test_catches_stacked_adapters(
    ollama: Ollama, tmp_path: Path, first: Delivery, second: Delivery,
    positions: tuple[Position, ...],
) -> None:  # fmt: skip
    """A release made from another one has both adapters."""
    ollama.copy(model_with(ollama, tmp_path, second), "bhavana:parent")
    model = model_with(ollama, tmp_path, first, parent="bhavana:parent")

    assert len(ollama.show(model).adapters) == 2
    with pytest.raises(ProbeFailed, match="does not answer like"):
        probe(ollama, model, positions, ollama.era())


def test_catches_a_wrong_base(
    ollama: Ollama, tmp_path: Path, first: Delivery, other_base: Base,
    positions: tuple[Position, ...], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """An adapter fits every base of its shape."""
    monkeypatch.setattr(lora, "require_base", lambda *_: None)
    model = model_with(ollama, tmp_path, delivery("release-1", Path(first.adapter), other_base))
    with pytest.raises(ProbeFailed, match="Is its base the very file that was trained on"):
        probe(ollama, model, positions, ollama.era())


def test_compares_first_tokens_where_a_server_tells_no_more(
    tmp_path: Path, make: MakeTarget, first: Delivery, second: Delivery,
    references: Foretold,
) -> None:  # fmt: skip
    """Before 0.12.11: the release passes, another release under its name does not."""
    with StandIn(tmp_path / "old", OLD.version) as server:
        target = make(url=server.url)
        target.publish(first)
        figures = target.probe(first, references)
        assert set(figures) == {"positions", "greedy", "as_base"}
        assert figures["greedy"] > figures["as_base"]

        target.publish(second)
        server.library.copy("bhavana:release-2", "bhavana:release-1")
        with pytest.raises(ProbeFailed, match="of its first tokens are the trained model's"):
            target.probe(first, references)


def test_asks_one_question_at_a_time_and_as_people_do_not(
    stand_in: StandIn, make: MakeTarget, first: Delivery, references: Foretold
) -> None:
    """Greedy, without penalty, raw: what it measures is the model, not the server's settings."""
    target = make()
    target.publish(first)
    stand_in.requests.clear()
    target.probe(first, references)

    asked = [d for _, path, d in stand_in.requests if path == "/api/generate" and d["prompt"]]
    assert len(asked) >= 50
    options = {"temperature": 0, "repeat_penalty": 1.0, "seed": 0, "num_predict": 1}
    assert all(d["raw"] and d["options"] == options and d["top_logprobs"] == 20 for d in asked)
    assert stand_in.runners.loads == ["bhavana:release-1"]  # no option of ours loads it anew


def test_catches_another_template_than_was_trained_with(
    make: MakeTarget, first: Delivery, references: Foretold
) -> None:
    """People would be answered by a model that was asked in another way than it learned."""
    target = make(template="zephyr")
    target.publish(first)
    with pytest.raises(ProbeFailed, match=r"chat template.*Set targets\.ollama\.template"):
        target.probe(first, references)


@pytest.mark.slow
def test_the_embedded_base_goes_its_whole_way(
    make: MakeTarget, stand_in: StandIn, tmp_path: Path
) -> None:
    """SmolLM2 in its 4 bits, with grouped queries: served as trained, and told from wrong rows."""
    base = locate("smollm2-135m")
    folder = adapter(tmp_path / "adapter", base, strength=0.01)
    # Of 8 tokens an answer only 48 places are the same for both tokenizers, and 50 are asked for.
    positions = forced(tmp_path / "forced", base, folder, cache=tmp_path / "cache", tokens=16)
    target, made = make(), delivery("release-1", folder, base)
    target.publish(made)
    figures = target.probe(made, Foretold(positions))
    assert figures["kl"] < 0.01
    assert abs(figures["strength"] - 1) < 0.05

    with pytest.MonkeyPatch.context() as patch:
        wrong_rows(patch)
        other = delivery("release-2", folder, base)
        target.publish(other)
    with pytest.raises(ProbeFailed):
        target.probe(other, Foretold(positions))
