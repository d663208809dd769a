"""The whole loop with the real daemon, killed with SIGKILL in its steps: two, or all five."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from daemon.settings import load
from daemon.wiring import open_target
from scorers.panel import panel_id
from store import cycles, experiences, schedule, sources
from store.events import Store
from store.records import (
    PRINCIPLES,
    Assessment,
    Consent,
    Dataset,
    Evaluation,
    Experience,
    Label,
    Message,
    Release,
    TrainingRun,
    now,
)
from tests import canaries
from trainer.gates import GATES
from trainer.job import Heartbeat
from trainer.targets.target import Traffic

ROOT = Path(__file__).resolve().parent.parent.parent
FILLER = 6_000
"""Assessed experiences without consent: they make `build` last long enough to be killed in."""
ROWS = 40
UNASSESSED = 20
PATIENCE_SECONDS = 300.0


def make_tiny_base(folder: Path) -> None:
    """A random Llama with the embedded base's tokenizer, small enough to train in seconds."""
    code = f"""
import torch
from pathlib import Path
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from trainer.base import locate
path = Path(locate("smollm2-135m").location)
tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
torch.manual_seed(0)
LlamaForCausalLM(LlamaConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2,
    num_attention_heads=2, num_key_value_heads=2, vocab_size=len(tokenizer),
    tie_word_embeddings=True, eos_token_id=2, pad_token_id=2)).save_pretrained({str(folder)!r})
tokenizer.save_pretrained({str(folder)!r})
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


def configure(data: Path, base: Path) -> Path:
    """Settings under which the tiny model passes: the gates stay, their bounds are wide open."""
    lines = [
        f"data_dir = {str(data)!r}",
        "[server]\nport = 0",
        "[policy]\nmin_examples = 20\nmax_harm = 1.0\nmin_weighted = 0.0",
        "near_duplicate = 0.0\nmax_per_question = 100",  # its texts differ in a number only
        'labels = ["excellent", "good", "moderate", "low"]',
        f"[trainer]\nbase = {str(base)!r}",
        "[trainer.recipe]\nlearning_rate = 0.05\nnum_train_epochs = 3\neffective_batch_size = 4",
        "[trainer.gate_sampling]\nmax_new_tokens = 4",
    ]
    lines += [
        f"[gates.{gate}]\nleast_gain_over_base = -100.0\nleast_gain_over_incumbent = -100.0\n"
        "most_slice_drop = 100.0"
        for gate in GATES
    ]
    path = data.parent / "bhavana.toml"
    path.write_text("\n".join(lines))
    return path


def fill(store: Store, panel: str) -> None:
    """Experiences to learn from, some still to be assessed, and many that are not consented."""

    def experience(number: int, consent: bool) -> Experience:
        return Experience(
            id=f"e{number}",
            occurred_at=now(),
            source="test",
            messages=(Message(role="user", content=f"What is {number} plus {number * 7}?"),),
            response=f"It is {number * 8}, as you can check: {canaries.SENTENCE}",
            consent=Consent(training=consent),
        )

    consented = [experience(i, True) for i in range(ROWS + UNASSESSED)]
    others = [experience(i, False) for i in range(1_000, 1_000 + FILLER)]
    experiences.record(store, [*consented, *others])
    sources.change(store, "test", "trusted", actor="test")
    experiences.assess(
        store,
        [
            Assessment(
                id=f"a-{e.id}",
                experience_id=e.id,
                panel=panel,
                findings=(),
                harm={"harshness": 0.0},
                principles=dict.fromkeys(PRINCIPLES, 8.0),
                actual_harm=0.0,
                weighted=8.0,
                label=Label.EXCELLENT,
                abstained=(),
                assessed_at=now(),
            )
            for e in [*consented[:ROWS], *others]
        ],
    )


def words_lie_in(data: Path) -> set[str]:
    """The entries of the data folder in which something holds what people said."""
    word = canaries.WORD.encode()
    files = (path for path in data.rglob("*") if path.is_file())
    return {path.relative_to(data).parts[0] for path in files if word in path.read_bytes()}


class Daemon:
    """A real daemon process over one configuration, which can be killed and started again."""

    def __init__(self, config: Path, data: Path) -> None:
        self.config, self.data = config, data
        self.log = (data.parent / "daemon.log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        (self.data / "progress.json").unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "daemon", "--config", str(self.config), "serve"],
            cwd=ROOT,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "BHAVANA_LOG_FORMAT": "json"},
            stderr=self.log,
        )

    def end(self, number: int) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(60)

    def phase(self) -> str:
        try:
            beat = msgspec.json.decode((self.data / "progress.json").read_bytes(), type=Heartbeat)
        except FileNotFoundError:
            return ""
        return beat.phase

    def log_lines(self) -> list[str]:
        text = (self.data.parent / "daemon.log").read_text()
        return [line for line in text.splitlines() if line.startswith("{")]

    def wait_for(self, step: str) -> str:
        """Waits until the cycle is in a step; fails with the log when it never gets there."""
        assert self.process is not None
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            phase = self.phase()
            if phase.startswith(step):
                return phase
            if self.process.poll() is not None or phase.startswith("done"):
                break
            time.sleep(0.002)
        log = (self.data.parent / "daemon.log").read_text()
        pytest.fail(f"never seen in {step!r}, last in {self.phase()!r}:\n{log[-3000:]}")


@pytest.fixture
def daemon(tmp_path):
    """A daemon over a filled store and a tiny base, with a cycle due at once."""
    data, base = tmp_path / "data", tmp_path / "base"
    data.mkdir()
    make_tiny_base(base)
    config = configure(data, base)
    with Store(f"sqlite:///{data / 'bhavana.db'}") as store:
        fill(store, panel_id(load(config, {}).panel))
        schedule.due_at(store, now())
    found = Daemon(config, data)
    yield found
    if found.process is not None:
        found.end(signal.SIGKILL)
    found.log.close()
    for log in (data.parent / "daemon.log", *data.rglob("log.txt")):  # the children's, too
        canaries.assert_unspoken(log.read_text())


RECORDS = {"assess": None, "build": Dataset, "train": TrainingRun, "evaluate": Evaluation}
RECORDS["promote"] = Release


@pytest.mark.parametrize(
    "steps", [("train", "promote"), pytest.param(tuple(RECORDS), marks=pytest.mark.slow)], ids=len
)
def test_a_cycle_killed_in_its_steps_completes_with_one_record_per_step(daemon, steps):
    """With a kill in each of them, and in the end one dataset, run, evaluation and release."""
    with Store(f"sqlite:///{daemon.data / 'bhavana.db'}") as store:
        for step in steps:
            record = RECORDS[step]
            daemon.start()
            daemon.wait_for(f"{step}:")
            daemon.end(signal.SIGKILL)
            cycle = cycles.running(store)
            assert cycle is not None, f"the cycle ended before it was killed in {step}"
            if record is not None:
                assert cycles.of_cycle(store, record, cycle.id) is None
        daemon.start()
        phase = daemon.wait_for("done:")
        code = daemon.end(signal.SIGTERM)

        types = [e.type for e in store.follow() if e.type != "experience.recorded"]
        assessed = types.count("experience.assessed")
        often = ("experience.assessed", "release.step")
        once = [t for t in types if t not in often]
        release = cycles.current_release(store, "local")

        assert phase == "done: promoted"
        assert code == 0
        assert assessed == ROWS + UNASSESSED + FILLER
        assert sorted(once) == sorted(set(once))
        assert set(once) >= {
            "cycle.started",
            "dataset.built",
            "run.finished",
            "evaluation.finished",
            "release.published",
            "release.activated",
            "canary.changed",
            "cycle.finished",
        }
        assert release is not None
        settings = load(daemon.config, {})
        on_trial = Traffic(release=None, canary=release.id, share=settings.canary.share)
        assert open_target(settings, store).active() == on_trial
        before = store.projections_digest()
        store.rebuild()
        assert store.projections_digest() == before
    for folder in ("datasets", "releases"):  # what is there is whole
        assert list((daemon.data / folder).glob("*.partial*")) == []
    # What erasing reaches is all there is: no cache and no job folder holds what people said.
    reached = {"bhavana.db", "bhavana.db-wal", "datasets"}
    assert {"datasets"} <= words_lie_in(daemon.data) <= reached
    events = [json.loads(line) for line in daemon.log_lines()]
    assert not [e for e in events if e.get("event") == "request_failed"]
