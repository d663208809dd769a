"""What a trained model and its base would say next, at places that a server can be asked of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.base import Base
from trainer.forced import _pieces as pieces
from trainer.forced import forced_job, rows, texts, tops
from trainer.job import read_record, write_record
from trainer.jobs import ForcedJob, ForcedManifest
from trainer.model import load
from trainer.questions import Question
from trainer.targets.agreement import is_told

pytestmark = pytest.mark.filterwarnings("ignore:::transformers", "ignore:::torch", "ignore:::peft")

QUESTIONS = tuple(Question(id=f"q-{n}", prompt=p) for n, p in enumerate(("Why?", "What is tea?")))


@pytest.fixture(scope="module")
def manifest(
    tiny_base: Base, trained: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ForcedManifest, Path]:
    """A whole job of two questions, and its folder."""
    folder = tmp_path_factory.mktemp("forced")
    job = ForcedJob(
        base=tiny_base,
        adapter=str(trained / "adapter"),
        cache=str(folder / "cache"),
        questions=QUESTIONS,
        tokens=5,
    )
    write_record(folder / "job.json", job)
    return forced_job(folder), folder


def test_the_manifest_can_be_read_back(manifest: tuple[ForcedManifest, Path]) -> None:
    """It is written last, and holds places of both questions."""
    found, folder = manifest
    assert read_record(folder / "manifest.json", ForcedManifest) == found
    assert {p.question for p in found.positions} == {"q-0", "q-1"}
    assert len(found.positions) <= 2 * 5
    assert all(is_told(p.trained) for p in found.positions)


def test_a_text_gives_the_tokens_that_the_numbers_are_of(
    manifest: tuple[ForcedManifest, Path], tiny_base: Base, trained: Path, tmp_path: Path
) -> None:
    """Sent as text and cut into tokens anew, each model says there what the manifest says."""
    for role, adapter in (("trained", trained / "adapter"), ("base", None)):
        model, tokenizer = load(tiny_base, tmp_path, adapter, dtype=torch.float32)
        for position in manifest[0].positions:
            with torch.inference_mode():
                logits = model(**tokenizer(position.text, return_tensors="pt")).logits[0, -1]
            logprobs = torch.log_softmax(logits, -1)
            for text, logprob in getattr(position, role).items():
                ids = tokenizer(text)["input_ids"]
                if len(ids) == 1 and text:
                    assert logprobs[ids[0]].item() == pytest.approx(logprob, abs=1e-3)


def test_places_follow_the_trained_models_own_answer(
    tiny_base: Base, trained: Path, tokenizer: Any, tmp_path: Path
) -> None:
    """Each row is the prompt and what is greedily said after it; the first place is the prompt."""
    model, _ = load(tiny_base, tmp_path, trained / "adapter", dtype=torch.float32)
    asked = rows(model, tokenizer, QUESTIONS, 5)
    found = tops(model, tokenizer, asked)
    for question, tokens, begin in asked:
        assert len(tokens) <= begin + 5
        first = max(found[question.id, begin].items(), key=lambda pair: pair[1])[0]
        assert first == pieces(tokenizer)(tokens[begin])
    places = [(id, place) for id, place, _ in texts(tokenizer, asked)]
    assert {(q.id, begin) for q, _, begin in asked} <= set(places)


def test_places_that_a_server_would_cut_otherwise_are_left_out(tokenizer: Any) -> None:
    """A greedy answer of `a` and `b` is one token as a text; the place after both is no place."""
    a, b = (tokenizer.convert_tokens_to_ids(t) for t in "ab")
    assert tokenizer("ab")["input_ids"] != [a, b]
    asked = [(QUESTIONS[0], [a, b, a], 1)]
    assert [place for _, place, _ in texts(tokenizer, asked)] == [1]


def test_pieces_keep_their_blanks_and_special_tokens_have_none(tokenizer: Any) -> None:
    """As llama.cpp tells them."""
    piece = pieces(tokenizer)
    assert piece(tokenizer.convert_tokens_to_ids("Ġthe")) == " the"
    assert piece(tokenizer.eos_token_id) == ""


def test_pieces_of_a_tokenizer_with_blanks_as_marks() -> None:
    """Of the SentencePiece kind, which drops the blank of a text's first token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<unk>": 0, "▁a": 1, "a": 2, "▁the": 3, "<0xF0>": 4}
    made = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    piece = pieces(PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>"))
    assert [piece(n) for n in (0, 2, 3, 4)] == ["", "a", " the", "\ufffd"]
