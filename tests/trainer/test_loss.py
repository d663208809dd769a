"""The loss against transformers' own and a naive loop, across layouts and micro-batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, TrainerCallback, TrainingArguments, get_scheduler

from trainer.base import Base
from trainer.loss import kl_to_base, mean_loss, supervised_loss
from trainer.sequences import IGNORED, Sequence, packed, padded, tokenise
from trainer.sft import SupervisedTrainer

pytestmark = pytest.mark.filterwarnings("ignore:::transformers", "ignore:::torch", "ignore:::peft")

LEARNING_RATE = 5e-3
Layout = Callable[[list[Sequence]], dict[str, torch.Tensor]]


def loaded(base: Base, attention: str = "sdpa") -> Any:
    """The base in float32 and evaluation mode."""
    return AutoModelForCausalLM.from_pretrained(
        base.location, dtype=torch.float32, attn_implementation=attention
    ).eval()


def adapted(base: Base, **changes: Any) -> Any:
    """The base with an adapter that is at work."""
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, **changes)
    return get_peft_model(loaded(base), config)


@pytest.fixture(scope="module")
def model(tiny_base: Base) -> Any:
    """The tiny base."""
    return loaded(tiny_base)


@pytest.fixture
def sequences(tokenizer: Any, rows: list[Any]) -> list[Sequence]:
    """Four conversations of four lengths."""
    return tokenise([rows[n] for n in (0, 3, 6, 11)], tokenizer, 256)


@pytest.mark.parametrize("layout", [padded, packed])
def test_loss_equals_the_one_of_transformers(
    model: Any, sequences: list[Sequence], layout: Layout
) -> None:
    """The head at supervised positions only gives the loss of all logits and cross-entropy."""
    with torch.no_grad():
        total, tokens = supervised_loss(model, layout(sequences))
        theirs = model(**padded(sequences)).loss
    assert tokens == int((padded(sequences)["labels"][:, 1:] != IGNORED).sum())
    assert float(total) / tokens == pytest.approx(float(theirs), abs=1e-5)


def test_loss_is_the_same_under_an_adapter(model: Any, tiny_base: Base, sequences: Any) -> None:
    """A PEFT model is asked with the adapter at work."""
    peft_model = adapted(tiny_base).eval()
    batch = padded(sequences)
    with torch.no_grad():
        total, tokens = supervised_loss(peft_model, batch)
        theirs = peft_model(**batch).loss
        of_base, _ = supervised_loss(model, batch)
    assert float(total) / tokens == pytest.approx(float(theirs), abs=1e-5)
    assert float(total) != pytest.approx(float(of_base), abs=1e-3)


@pytest.mark.parametrize("layout", [padded, packed])
def test_company_does_not_change_the_sum(
    model: Any, sequences: list[Sequence], layout: Layout
) -> None:
    """A batch has the loss and the count of its sequences one by one."""
    with torch.no_grad():
        together, tokens = supervised_loss(model, layout(sequences))
        alone = [supervised_loss(model, padded([s])) for s in sequences]
    assert tokens == sum(count for _, count in alone)
    assert float(together) == pytest.approx(sum(float(loss) for loss, _ in alone), rel=1e-5)


def test_mean_loss_weighs_tokens_not_rows(model: Any, sequences: list[Sequence]) -> None:
    """Nats per supervised token over all sequences, whatever their lengths."""
    with torch.no_grad():
        total, tokens = supervised_loss(model, padded(sequences))
    assert mean_loss(model, sequences) == pytest.approx(float(total) / tokens, rel=1e-5)


def leak(model: Any, sequences: list[Sequence], **more: torch.Tensor) -> float:
    """How far the logits of packed documents are from those of each alone, at most."""
    batch = {k: v for k, v in packed(sequences).items() if k != "labels"}
    with torch.no_grad():
        together = model(**batch, **more, use_cache=False).logits[0]
        alone = [model(torch.tensor([s["input_ids"]])).logits[0] for s in sequences]
    return float((together - torch.cat(alone)).abs().max())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_documents_do_not_see_each_other(
    tiny_base: Base, sequences: list[Sequence], attention: str
) -> None:
    """Each document's logits are its own; with an attention_mask, as others pass, they leak."""
    loaded_so = loaded(tiny_base, attention)
    assert leak(loaded_so, sequences) < 1e-3
    mask = torch.ones_like(packed(sequences)["input_ids"])
    assert leak(loaded_so, sequences, attention_mask=mask) > 1


def test_kl_is_zero_for_the_base_and_grows_with_the_adapter(
    tiny_base: Base, sequences: list[Sequence]
) -> None:
    """Nats per token from the base: none for an adapter that changes nothing, by hand else."""
    untouched = get_peft_model(loaded(tiny_base), LoraConfig(r=4, target_modules="all-linear"))
    assert kl_to_base(untouched.eval(), sequences) == pytest.approx(0, abs=1e-6)
    changed = adapted(tiny_base).eval()
    divergences = []
    for s in sequences:
        inputs = torch.tensor([s["input_ids"]])
        where = torch.tensor(s["labels"][1:]) != IGNORED
        with torch.no_grad():
            ours = changed(inputs).logits[0, :-1][where].log_softmax(-1)
            with changed.disable_adapter():
                base = changed(inputs).logits[0, :-1][where].log_softmax(-1)
        divergences.append((ours.exp() * (ours - base)).sum(-1))
    by_hand = float(torch.cat(divergences).mean())
    assert by_hand > 0.01
    assert kl_to_base(changed, sequences) == pytest.approx(by_hand, rel=1e-4)


class Steps(TrainerCallback):
    """Keeps each step's loss, and the gradients of the first."""

    def __init__(self) -> None:
        self.gradients: dict[str, torch.Tensor] = {}
        self.losses: list[float] = []

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, **_: Any
    ) -> None:
        self.gradients = self.gradients or {
            name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
        }

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in logs:
            self.losses.append(logs["loss"])


def trained(
    base: Base, rows: list[Sequence], micro: int, layout: Layout, folder: Path, **more: Any
) -> Steps:
    """Steps over the rows in effective batches of four."""
    seen = Steps()
    SupervisedTrainer(
        model=adapted(base),
        args=TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=4 // micro,
            train_sampling_strategy="sequential",
            num_train_epochs=2,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="cosine",
            warmup_steps=0.1,
            logging_steps=1,
            use_cpu=True,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            **more,
        ),
        train_dataset=rows,
        data_collator=layout,
        callbacks=[seen],
    ).train()
    return seen


@pytest.fixture
def twelve(tokenizer: Any, rows: list[Any]) -> list[Sequence]:
    """Twelve conversations, three effective batches an epoch."""
    return tokenise(rows, tokenizer, 256)


@pytest.mark.parametrize(
    ("micro", "layout"),
    [
        (1, packed),
        pytest.param(2, packed, marks=pytest.mark.slow),
        (4, packed),
        pytest.param(1, padded, marks=pytest.mark.slow),
        (2, padded),
    ],
)
def test_losses_and_gradients_do_not_depend_on_the_micro_batch(
    tiny_base: Base, twelve: list[Sequence], tmp_path: Path, micro: int, layout: Layout
) -> None:
    """Rows of unlike lengths weigh by tokens, however an effective batch is cut and laid out."""
    whole = trained(tiny_base, twelve, 4, padded, tmp_path / "whole")
    cut = trained(tiny_base, twelve, micro, layout, tmp_path / "cut")
    assert len(whole.losses) == 6
    assert cut.losses == pytest.approx(whole.losses, abs=1e-5)
    assert len(whole.gradients) == 2 * 7 * 2  # A and B of seven linear layers in two blocks
    for name, gradient in whole.gradients.items():
        assert float(gradient.abs().max()) > 0
        torch.testing.assert_close(cut.gradients[name], gradient, rtol=1e-4, atol=1e-5)


def test_activation_checkpointing_changes_nothing_but_memory(
    tiny_base: Base, twelve: list[Sequence], tmp_path: Path
) -> None:
    """The same losses and gradients from activations that are computed twice."""
    kept = trained(tiny_base, twelve, 4, packed, tmp_path / "kept")
    twice = trained(
        tiny_base,
        twelve,
        4,
        packed,
        tmp_path / "twice",
        activation_checkpointing=True,
        activation_checkpointing_kwargs={"use_reentrant": False},
    )
    assert twice.losses == pytest.approx(kept.losses, abs=1e-6)
    for name, gradient in kept.gradients.items():
        torch.testing.assert_close(twice.gradients[name], gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("layout", [padded, packed])
def test_a_head_that_is_more_than_products_is_asked_itself(
    tiny_base: Base, sequences: list[Sequence], layout: Layout
) -> None:
    """One with an adapter of its own, and one of a family whose logits are changed afterwards."""
    batch = layout(sequences)
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["lm_head"], init_lora_weights=False)
    of = get_peft_model(loaded(tiny_base), config).eval()
    total, tokens = supervised_loss(of, batch)
    logits = of(**{k: v for k, v in batch.items() if k != "labels"}, use_cache=False).logits
    theirs = cross_entropy(
        logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=IGNORED
    )
    torch.testing.assert_close(total / tokens, theirs)
    assert total.requires_grad
    plain = loaded(tiny_base)
    expected, _ = supervised_loss(plain, batch)
    plain.config.model_type = "gemma2"
    plain.lm_head.register_forward_hook(lambda _, __, logits: logits.tanh() * 3)
    capped, _ = supervised_loss(plain, batch)
    assert float(capped.detach()) != pytest.approx(float(expected.detach()), rel=0.01)


def test_after_the_loss_the_head_answers_as_before(
    tiny_base: Base, sequences: list[Sequence]
) -> None:
    """Also when the model fails on the way."""
    of, batch = loaded(tiny_base), padded(sequences)
    before = of(batch["input_ids"]).logits
    supervised_loss(of, batch)
    with pytest.raises(IndexError):
        supervised_loss(of, batch | {"input_ids": batch["input_ids"] + 10**6})
    assert torch.equal(of(batch["input_ids"]).logits, before)


def naive(base: Base, rows: list[Sequence]) -> list[float]:
    """Each step's loss of the loop that everybody writes: padded, all logits, one batch a step."""
    model = adapted(base).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.0)
    scheduler = get_scheduler("cosine", optimizer, num_warmup_steps=1, num_training_steps=6)
    losses = []
    for start in [*range(0, 12, 4)] * 2:
        batch = padded(rows[start : start + 4])
        labels = batch.pop("labels")
        logits = model(**batch).logits[:, :-1]
        loss = cross_entropy(
            logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="mean"
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize(("micro", "layout"), [(1, packed), (4, packed), (4, padded)])
def test_the_loss_curve_is_the_one_of_a_naive_loop(
    tiny_base: Base, twelve: list[Sequence], tmp_path: Path, micro: int, layout: Layout
) -> None:
    """Step by step, on the same order of data, below a thousandth of a nat."""
    ours = trained(tiny_base, twelve, micro, layout, tmp_path / "ours")
    theirs = naive(tiny_base, twelve)
    assert sum(theirs[3:]) < sum(theirs[:3]) - 0.1  # it learned, so there is a curve
    assert ours.losses == pytest.approx(theirs, abs=1e-3)
