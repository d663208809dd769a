"""Lines of releases through the loop: a line's settings, its parent, its incumbent, its turn."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from converters import build
from daemon import cycle, report
from daemon.rollback import roll_back
from daemon.service import Service
from daemon.settings import load
from daemon.wiring import Parts, open_target
from scorers.panel import panel_id
from store import cycles, experiences, privacy, schedule, sources
from store.errors import Misconfigured, Rejected
from store.records import Dataset, Evaluation, Outcome, Release, Verdict, now
from trainer.adapter import FILES, adapter_hash
from trainer.gates import GATES, NAMES
from trainer.job import write_record
from trainer.jobs import EvaluateJob, EvaluateManifest, FinetuneJob, FinetuneManifest, gates_hash
from trainer.stages import STAGES
from trainer.targets.local import LocalTarget
from trainer.targets.target import Traffic

CONFIG = """
data_dir = {data!r}
[store]
url = {url!r}
[policy]
min_examples = 1
max_single_share = 1.0
near_duplicate = 0.0
paraphrase = 0.0
[trainer]
base = {base!r}
[lines.math]
stage = "specialist"
parent = "main"
[lines.math.gates.forgetting]
least_items = 7
[lines.code]
"""
BASE = {
    "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64,
    "num_attention_heads": 2,
}  # fmt: skip


class Children:
    """Stands in for training and judging: leaves what the real children leave, at once."""

    def __init__(self):
        self.jobs = []
        self.killed_in = ""

    def __call__(self, module, folder, job, **_):
        if self.killed_in == module:
            raise KeyboardInterrupt
        self.jobs.append(job)
        folder.mkdir(parents=True, exist_ok=True)
        write = {"trainer.finetune": self._train, "trainer.evaluate": self._judge}[module]
        write_record(folder / "manifest.json", write(folder, job))

    def _train(self, folder, job):
        recipe, adapter = job.recipe, folder / "adapter"
        adapter.mkdir()
        config = {"r": recipe.lora_r, "lora_alpha": recipe.lora_alpha}
        config |= {"use_rslora": recipe.use_rslora, "use_dora": recipe.use_dora}
        (adapter / FILES[0]).write_text(json.dumps(config))
        (adapter / FILES[1]).write_text(folder.name)
        return FinetuneManifest(
            adapter_hash=adapter_hash(adapter), base_hash=job.base.hash, recipe_hash="r",
            metrics={}, versions={}, finished_at=now(), parent=job.parent,
        )  # fmt: skip

    def _judge(self, _, job):
        verdicts = tuple(
            Verdict(
                gate=name, outcome=Outcome.PASS, reason="", metric="m", unit="share",
                higher_is_better=True, n=1, families=1,
            )
            for name in sorted(NAMES)
        )  # fmt: skip
        return EvaluateManifest(
            adapter_hash=job.candidate_hash, base_hash=job.base.hash,
            gates_hash=gates_hash(job.rules, job.sampling), verdicts=verdicts, metrics={},
            finished_at=now(),
        )  # fmt: skip

    def last(self, kind):
        """The last job of this kind."""
        return [job for job in self.jobs if isinstance(job, kind)][-1]


@pytest.fixture
def children(monkeypatch):
    """What the loop starts in place of trainings, evaluations, probes; the rest of it is real."""
    found = Children()
    monkeypatch.setattr(cycle, "run_job", found)
    monkeypatch.setattr(LocalTarget, "probe", lambda *_: {"asked": 1.0})
    monkeypatch.setattr(cycle, "vouch_for_panel", lambda *_: None)
    monkeypatch.setattr(cycle, "build_apart", lambda order, _: build.answer(order).dataset)
    return found


@pytest.fixture
def say(store, make_experience, make_assessment, parts):
    """Records an assessed experience of a trusted source."""

    def record(name, source):
        experiences.record(store, [make_experience(name, source=source)])
        experiences.assess(store, [make_assessment(name, panel=panel_id(parts.settings.panel))])
        sources.change(store, source, "trusted", actor="test")

    return record


@pytest.fixture
def parts(store, store_url, tmp_path):
    """What the loop works with: a main line, the specialist math, and code without a stage."""
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps(BASE))
    (base / "model.safetensors").write_bytes(b"weights")
    path = tmp_path / "bhavana.toml"
    path.write_text(CONFIG.format(data=str(tmp_path), url=store_url, base=str(base)))
    settings = load(path, {})
    return Parts(settings=settings, store=store, target=open_target(settings, store))


@pytest.fixture
def turn(parts, children, say):
    """Turns a line after something new was said to learn from; returns how the cycle ended."""
    count = iter(range(100))
    for source in ("web", "math"):
        for number in range(4):
            say(f"{source}-{number}", source)

    def once(line="main", **changes):
        say(f"new-{next(count)}", "math")
        return cycle.turn(msgspec.structs.replace(parts, **changes), reason="test", line=line)

    return once


def _serving(parts, line="main"):
    release = cycles.current_release(parts.store, "local", line)
    recorded = None if release is None else release.id
    assert parts.target.active(line) == Traffic(release=recorded)
    return recorded


def _evaluation(parts, ended):
    return cycles.of_cycle(parts.store, Evaluation, ended.id)


def test_a_specialist_begins_with_mains_release_and_moves_only_its_own_line(parts, turn, children):
    """Its first rival is its parent; every record names line and parent."""
    main = turn()
    first = _serving(parts)
    ended = turn("math")
    assert (main.state, ended.state, ended.line, ended.parent) == (
        "promoted", "promoted", "math", first
    )  # fmt: skip
    job = children.last(FinetuneJob)
    assert (job.parent.release, job.parent.adapter_hash) == (
        first, adapter_hash(parts.archive.adapter(first))
    )  # fmt: skip
    assert _evaluation(parts, ended).incumbent == first
    assert children.last(EvaluateJob).incumbent == str(parts.archive.adapter(first))
    assert _serving(parts) == first
    release = cycles.by_id(parts.store, Release, _serving(parts, "math"))
    assert (release.line, release.parent, release.previous) == ("math", first, None)
    assert str((Path(parts.target.folder) / "current").readlink()) == first


def test_a_candidate_is_judged_against_its_own_lines_incumbent(parts, turn, children):
    """Not against main's newer one, nor against its parent, once its line has one."""
    turn()
    turn("math")
    special = _serving(parts, "math")
    turn()
    newer = _serving(parts)
    ended = turn("math")
    assert ended.parent == newer
    assert _evaluation(parts, ended).incumbent == special
    assert children.last(EvaluateJob).incumbent == str(parts.archive.adapter(special))
    release = cycles.current_release(parts.store, "local", "math")
    assert (release.previous, release.parent) == (special, newer)


def test_the_way_back_of_one_line_leaves_the_other(parts, turn):
    """To the release before, then to the base; from the base there is no way back."""
    turn()
    turn("math")
    main, special = _serving(parts), _serving(parts, "math")
    turn("math")
    gone = roll_back(parts, reason="worse", actor="me", line="math")
    assert gone.previous == special
    assert (_serving(parts), _serving(parts, "math")) == (main, special)
    roll_back(parts, reason="worse", actor="me", line="math")
    assert (_serving(parts), _serving(parts, "math")) == (main, None)
    with pytest.raises(Rejected, match="nothing to go back to"):
        roll_back(parts, reason="worse", actor="me", line="math")


def test_mixture_and_rules_of_the_stage_reach_dataset_and_evaluation(parts, turn, children):
    """The dataset holds what the mixture names, the evaluation asks what the stage asks."""
    turn()
    ended = turn("math")
    dataset = cycles.of_cycle(parts.store, Dataset, ended.id)
    assert dataset.policy.mixture == {"math": 6, "exemplar": 3, "constitution": 1}
    said = experiences.bodies_at(parts.store, dataset.members).values()
    assert {msgspec.json.decode(one)["source"] for one in said} == {"math"}
    rules = children.last(EvaluateJob).rules
    assert rules["refusal"].least_gain_over_incumbent == -0.02
    assert rules["forgetting"].least_items == 7
    assert rules["refusal"].least_gain_over_base == GATES["refusal"].rule.least_gain_over_base
    turn("code")
    assert children.last(EvaluateJob).rules == parts.settings.gates
    assert children.last(FinetuneJob).parent is None


@pytest.mark.parametrize("module", ["trainer.finetune", "trainer.evaluate"])
def test_a_killed_cycle_goes_on_on_its_own_line(parts, turn, children, module):
    """Also where main released meanwhile, and where another line is asked for."""
    turn()
    first = _serving(parts)
    children.killed_in = module
    with pytest.raises(KeyboardInterrupt):
        turn("math")
    children.killed_in = ""
    ended = turn("main")
    assert (ended.line, ended.parent, ended.state) == ("math", first, "promoted")
    assert _serving(parts) == first
    assert turn("main").line == "main"


def test_a_parent_that_cannot_be_gone_on_with_is_refused(parts, turn, children):
    """Of another shape, of another base, or not there: told before anything is built."""
    turn()
    trained = len(children.jobs)
    line = parts.settings.lines["math"]
    wider = msgspec.structs.replace(line.recipe, lora_r=8)
    gone = msgspec.structs.replace(line, parent="release-gone")
    for said, changed in (
        ("r 16, not 8", msgspec.structs.replace(line, recipe=wider)),
        ("no release release-gone", gone),
    ):
        lines = parts.settings.lines | {"math": changed}
        ended = turn("math", settings=msgspec.structs.replace(parts.settings, lines=lines))
        assert ended.state == "failed"
        assert said in ended.detail
        assert cycles.of_cycle(parts.store, Dataset, ended.id) is None
    (Path(parts.settings.trainer.base) / "model.safetensors").write_bytes(b"others")
    ended = turn("math")
    assert (ended.state, "was trained on" in ended.detail) == ("failed", True)
    assert len(children.jobs) == trained


def test_a_line_goes_on_with_its_own_adapter_until_it_is_rebased(parts, turn, children):
    """After so many releases it begins with the untouched base again."""
    own = msgspec.structs.replace(parts.settings.lines["code"], parent="code", rebase_every=2)
    settings = msgspec.structs.replace(parts.settings, lines={"code": own})
    parents = []
    for _ in range(4):
        before = _serving(parts, "code")
        assert turn("code", settings=settings).state == "promoted"
        parent = children.last(FinetuneJob).parent
        parents.append(parent is not None and parent.release == before)
    assert parents == [False, True, False, True]


def test_a_line_whose_parent_learned_from_erased_words_waits_for_the_parent(parts, turn, children):
    """What was erased is in the parent's weights: nothing more is made of them."""
    turn()
    privacy.erase(parts.store, "experience", "web-1", reason="asked", actor="test")
    trained = len(children.jobs)
    ended = turn("math")
    assert (ended.state, "of which something was erased since" in ended.detail) == ("failed", True)
    assert len(children.jobs) == trained
    assert turn().state == "promoted"
    assert turn("math").state == "promoted"


def test_a_line_whose_own_adapter_learned_from_erased_words_is_rebased(parts, turn, children):
    """Else it would wait for itself."""
    own = msgspec.structs.replace(parts.settings.lines["code"], parent="code")
    settings = msgspec.structs.replace(parts.settings, lines={"code": own})
    turn("code", settings=settings)
    privacy.erase(parts.store, "experience", "web-1", reason="asked", actor="test")
    assert turn("code", settings=settings).state == "promoted"
    assert children.last(FinetuneJob).parent is None


def test_a_line_that_is_not_configured_is_refused(parts, turn, children):
    """Before anything is recorded; a cycle whose line was taken out meanwhile ends."""
    with pytest.raises(Misconfigured, match="did you mean 'math'"):
        turn("mth")
    assert cycles.last(parts.store) is None
    children.killed_in = "trainer.finetune"
    with pytest.raises(KeyboardInterrupt):
        turn("code")
    ended = turn("main", settings=msgspec.structs.replace(parts.settings, lines={}))
    assert (ended.line, ended.state) == ("code", "failed")
    assert "Not configured" in ended.detail


def test_lines_take_their_turns_in_order(parts, turn, children):
    """Each has a schedule of its own; what was interrupted goes first, on its own line."""
    service = Service(parts, lambda: parts.settings)
    service._judge.close()
    assert service._due() is None  # the first time of each is only planned
    planned = [schedule.schedule(parts.store, schedule.of_line(n)) for n in ("main", "math")]
    assert all(one.next_run_at > now() + timedelta(hours=23) for one in planned)
    for line in ("code", "math", "main"):
        schedule.due_at(parts.store, now(), schedule.of_line(line))
    due = [service._due() for _ in range(4)]
    assert due == [("schedule", n, True) for n in ("main", "math", "code")] + [None]
    schedule.due_at(parts.store, now())
    children.killed_in = "trainer.finetune"
    with pytest.raises(KeyboardInterrupt):
        turn("math")
    assert service._due() == ("test", "math", False)


def test_a_turn_that_another_daemon_prevented_stays_due(parts, monkeypatch):
    """One line's long cycle must not cost another line its day."""
    service = Service(parts, lambda: parts.settings)
    service._judge.close()
    name = schedule.of_line("math")
    schedule.due_at(parts.store, now(), name)
    schedule.acquire(parts.store, "another daemon")
    service._tick()
    assert schedule.schedule(parts.store, name).next_run_at <= now()
    assert cycles.last(parts.store) is None


def test_status_tells_of_each_line(parts, turn):
    """For programs all lines, for people those beside the main one."""
    turn()
    turn("math")
    lines = report.status(parts.store, parts.settings)["lines"]
    assert lines["math"]["release"] == _serving(parts, "math")
    assert lines["math"]["parent"] == lines["main"]["release"] == _serving(parts)
    assert lines["code"] == dict.fromkeys(("release", "parent", "last_cycle", "next_run_at"))
    text = report.status_text(parts.store, parts.settings)
    assert f"line math    {_serving(parts, 'math')} (from {_serving(parts)})" in text
    assert "line code    the untouched base" in text


# --- the configuration ----------------------------------------------------------------------


def _loaded(tmp_path, text):
    path = tmp_path / "lines.toml"
    path.write_text(text)
    return load(path, {})


def test_a_line_is_the_main_one_but_for_what_it_sets(tmp_path):
    """Its recipe and gates are laid over [trainer.recipe] and [gates], its mixture replaces."""
    settings = _loaded(
        tmp_path,
        "[trainer.recipe]\nlora_r = 8\n[gates.refusal]\nleast_gain_over_incumbent = 0.1\n"
        '[policy]\nmax_harm = 0.2\n[lines.math]\nstage = "specialist"\n'
        "[lines.math.recipe]\nlora_alpha = 16\n[lines.math.gates.refusal]\nleast_items = 5\n"
        '[lines.plain]\nparent = "math"\n[lines.plain.mixture]\nweb = 1\n',
    )
    math, plain = settings.of_line("math"), settings.of_line("plain")
    assert (math.trainer.recipe.lora_r, math.trainer.recipe.lora_alpha) == (8, 16)
    assert math.gates["refusal"].least_items == 5
    assert math.gates["refusal"].least_gain_over_incumbent == 0.1  # a stage never asks for less
    assert math.gates["principles"].least_gain_over_incumbent == -0.02
    assert (math.policy.max_harm, math.policy.mixture["math"]) == (0.2, 6)
    assert plain.policy.mixture == {"web": 1}
    assert plain.gates == settings.gates
    assert settings.of_line("main") is settings
    assert settings.line_names == ("main", "math", "plain")


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_can_be_used(tmp_path, stage):
    """What it asks of gates names gates and rules that there are, and sharpens them."""
    settings = _loaded(tmp_path, f'[lines.physics]\nstage = "{stage}"\n').of_line("physics")
    assert sum(settings.policy.mixture.values()) == 10
    for gate, rules in STAGES[stage].gates.items():
        for name, least in rules.items():
            assert getattr(settings.gates[gate], name) == least
            assert getattr(GATES[gate].rule, name) < least


def test_what_is_wrong_with_a_line_is_told_by_its_key(tmp_path):
    """All of it together, with the near name."""
    with pytest.raises(Misconfigured) as caught:
        _loaded(
            tmp_path,
            '[lines.Math]\n[lines.math]\nstage = "specialst"\nparent = "mai"\nparen = 3\n'
            'rebase_every = 0\n[lines.math.mixture]\nweb = "much"\n'
            '[lines.math.recipe]\nlora_rr = 8\nlora_alpha = "x"\n[lines.math.gates.refusl]\n'
            '[lines.math.gates.refusal]\nleast_items = "few"\n'
            '[lines.x]\nparent = "y"\n[lines.y]\nparent = "x"\n',
        )
    told = caught.value.message
    for key in (
        "lines.Math: ",
        "'specialst': did you mean 'specialist'?",
        "'mai': did you mean 'main'?",
        "'lines.math.paren': did you mean 'lines.math.parent'?",
        "lines.math.rebase_every: ",
        "lines.math.mixture: ",
        "'lines.math.recipe.lora_rr': did you mean 'lines.math.recipe.lora_r'?",
        "lines.math.recipe.lora_alpha: ",
        "'lines.math.gates.refusl': did you mean 'lines.math.gates.refusal'?",
        "lines.math.gates.refusal.least_items: ",
        "lines.x.parent: x -> y -> x is a ring.",
    ):
        assert key in told
    assert told.count("\n") == 11


# --- the command line -----------------------------------------------------------------------


def test_verbs_name_a_line(bhavana):
    """An unknown one is refused with the near name, and a way back that there is not."""
    for verb in (("cycle", "--line", "mth"), ("chat", "--line", "mth", "Hello")):
        ran = bhavana(*verb, BHAVANA_LINES__MATH__STAGE="specialist")
        assert (ran.returncode, "did you mean 'math'?" in ran.stderr) == (2, True), ran.stderr
    ran = bhavana("rollback", "--line", "math", "--reason", "worse", "--as", "me")
    assert (ran.returncode, "nothing to go back to" in ran.stderr) == (2, True), ran.stderr
