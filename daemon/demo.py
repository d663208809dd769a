"""`make demo`: the whole loop once, on this machine, with the real daemon as its own process.

It does nothing that a user could not: it calls the same verbs and reads the same records. A
second run goes on from what the first one left in .demo/.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from daemon import logs, report
from daemon.cli.loop import KEY_VARIABLE
from daemon.service import running_daemon
from daemon.settings import Settings, load
from store import cycles, experiences, keys
from store.errors import BhavanaError, Unavailable
from store.events import Store
from store.records import PRACTICE, Cycle, Evaluation, Release, TrainingRun
from trainer.gates import GATES
from trainer.gates.sample import read_suite
from trainer.job import read_record
from trainer.jobs import EvaluateManifest, read_observations
from trainer.launch import end

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / ".demo"
EPISODES = 500
ANSWER_TOKENS = 40
CONSTITUTIONAL = 150
MIXTURE = "{ exemplar = 75, practice = 15, constitution = 10 }"
"""How much of the dataset each source should be; the card says what could not be met."""
MAX_LENGTH = 128
"""Tokens of a training row, for the time it takes: the question and how the answer begins."""
START_SECONDS = 60.0
SHOWN = (("refusal", 0), ("over_refusal_lookalikes", 1), ("over_refusal_ordinary", 2))
"""Which items' answers are shown: a gate, and the place in its suite."""


class Stopwatch:
    """Wall time by step."""

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Announces a step and measures it."""
        click.secho(f"\n== {name}", bold=True)
        started = time.monotonic()
        try:
            yield
        finally:
            self.steps[name] = time.monotonic() - started


def demo() -> int:
    """Turns the loop once; 0 when the release in service was promoted by its gates."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith("BHAVANA_")}
    environment = ours | {
        "BHAVANA_CONFIG": os.devnull,  # not the user's own store
        "BHAVANA_DATA_DIR": str(DATA),
        "BHAVANA_SERVER__PORT": "0",
        "BHAVANA_POLICY__PHASE": "bootstrap",  # the first adapter of an untouched base
        "BHAVANA_POLICY__MIXTURE": MIXTURE,
        "BHAVANA_POLICY__HOLDOUT_SHARE": "0.06",  # few rows: each is dear
        "BHAVANA_POLICY__TEST_SHARE": "0.04",
        "BHAVANA_TRAINER__RECIPE__MAX_LENGTH": str(MAX_LENGTH),
        "BHAVANA_LOG_FORMAT": "json",
        "HF_HUB_OFFLINE": "1",
    }
    settings = load(Path(os.devnull), environment)
    watch = Stopwatch()
    DATA.mkdir(exist_ok=True)
    with Store(settings.store_url) as store:
        with watch.step("start the daemon"), (DATA / "daemon.log").open("ab") as log:
            daemon = subprocess.Popen(
                [sys.executable, "-m", "daemon", "serve"], cwd=ROOT, env=environment, stderr=log
            )
        try:
            with watch.step("the daemon answers"):
                click.echo(_await(settings, daemon))
            key, secret = keys.create(
                store, name="demo", scopes=("ingest", "operate"), actor="demo"
            )
            verbs = environment | {KEY_VARIABLE: secret}
            with watch.step("post exemplars; the base practises and posts its answers"):
                practised = PRACTICE in experiences.count_by_source(store)
                episodes = 0 if practised else EPISODES
                practice = ["practice", "--exemplars", "--constitution", str(CONSTITUTIONAL)]
                practice += ["--episodes", str(episodes)]
                code = _run([*practice, "--max-new-tokens", str(ANSWER_TOKENS)], verbs)
                if code:
                    return code
            with watch.step("one cycle: assess, build, train, evaluate, promote"):
                code = _run(["cycle"], verbs)
            keys.revoke(store, key.id, actor="demo")
        finally:
            with watch.step("stop the daemon"):
                end(daemon, START_SECONDS)
        return _tell(store, settings, watch, code)


def _await(settings: Settings, daemon: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if daemon.poll() is not None:
            raise Unavailable(f"The daemon ended at once; {DATA / 'daemon.log'} says why.")
        address = running_daemon(settings.data)
        if address is not None and address.pid == daemon.pid:
            return f"{address.url} (pid {address.pid})"
        time.sleep(0.1)
    raise Unavailable(f"The daemon did not start; look at {DATA / 'daemon.log'}.")


def _run(verb: list[str], environment: dict[str, str]) -> int:
    click.echo(f"$ bhavana {' '.join(verb)}")
    return subprocess.run(
        [sys.executable, "-m", "daemon", *verb], cwd=ROOT, env=environment, check=False
    ).returncode


def _tell(store: Store, settings: Settings, watch: Stopwatch, code: int) -> int:
    cycle = cycles.last(store)
    release = cycles.current_release(store, settings.trainer.target)
    evaluation = report.serving_evaluation(store, settings.trainer.target)
    if evaluation is None:  # the newest: a cycle with nothing new to judge has none of its own
        evaluation = next(reversed(cycles.every(store, Evaluation)), None)
    if evaluation is None:
        click.echo("\nNo candidate was evaluated.")
        return code or 3
    click.secho("\n== gates: base against candidate", bold=True)
    click.echo("\n".join(report.table(evaluation.verdicts)))
    click.secho("\n== before and after, from the evaluation", bold=True)
    _show_answers(Path(evaluation.path))
    click.secho("\n== where the time went", bold=True)
    _show_costs(store, watch, cycle, evaluation)
    click.secho("\n== how to go on", bold=True)
    _show_next(settings, release)
    if release is None:
        click.echo("\nThe gates held the candidate back; the base still serves.", err=True)
        return 3
    return code


def _show_answers(folder: Path) -> None:
    for gate, place in SHOWN:
        item = read_suite(GATES[gate].task.suite)[place]
        click.echo(f"\n  person     {item.prompt}")
        for role, name in (("base", "before"), ("candidate", "after")):
            for observation in read_observations(folder, role, GATES[gate].task):
                if observation.id == item.id and observation.answer is not None:
                    text = " ".join(observation.answer.response.split())
                    click.echo(f"  {name:10} {text}{'' if observation.answer.finished else ' …'}")


def _show_costs(
    store: Store, watch: Stopwatch, cycle: Cycle | None, evaluation: Evaluation
) -> None:
    for name, seconds in watch.steps.items():
        click.echo(f"  {seconds:7.1f} s  {name}")
    run = cycles.by_id(store, TrainingRun, evaluation.run_id)
    if run is not None and cycle is not None and run.cycle_id == cycle.id:
        judged = read_record(Path(evaluation.path) / "manifest.json", EvaluateManifest)
        for name, metrics in (("training", run.metrics), ("evaluation", judged.metrics)):
            click.echo(
                f"  {metrics['seconds']:7.1f} s    of it {name}, "
                f"peak memory {metrics['peak_memory_mb']:.0f} MB"
            )


def _show_next(settings: Settings, release: Release | None) -> None:
    prefix = f"BHAVANA_DATA_DIR={settings.data} .venv/bin/bhavana"
    click.echo(f"  everything lies in {settings.data}")
    if release is not None:
        click.echo(f"  the release         {release.location}")
    click.echo(f"  what happened       {prefix} status")
    click.echo(f"  talk to both        {prefix} chat --base")
    click.echo(f"  run the daemon      {prefix} serve")


def main() -> int:
    """Runs the demo; our errors become one message."""
    logs.set_up()
    try:
        return demo()
    except BhavanaError as error:
        click.echo(f"error: {error}", err=True)
        return 2


if __name__ == "__main__":
    sys.exit(main())
