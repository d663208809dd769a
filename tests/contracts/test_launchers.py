"""What every launcher of the roster promises, and what each is read by."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import pytest

from store.errors import Misconfigured, Rejected
from trainer.isolation import ResourceLimits
from trainer.launchers import LAUNCHERS
from trainer.launchers.kubernetes import manifest
from trainer.launchers.launcher import KubernetesSettings, LaunchSettings, Plan, SlurmSettings

ODD = 'it\'s a folder; $(touch gone) 100% "full"'
CLUSTERS = LaunchSettings(
    processes=2,
    gpus=2,
    minutes=90,
    slurm=SlurmSettings(partition="gpu,long", account="lab-1"),
    kubernetes=KubernetesSettings(image="registry.example/bhavana:0.1", claim="bhavana-data"),
)
SCHEMA, DEFINITIONS = "v1.37.0-local-strict", "_definitions.json"


def plan(
    data: Path, launch: LaunchSettings = CLUSTERS, limits: ResourceLimits | None = None
) -> Plan:
    """A job in a data folder."""
    folder = data / "runs" / "run-0198C2ab_7"
    return Plan(folder=folder, data=data, launch=launch, limits=limits or ResourceLimits())


@pytest.mark.parametrize("name", sorted(LAUNCHERS))
def test_names_the_job_and_loads_nothing_for_it(name: str, tmp_path: Path) -> None:
    """The text names the very folder; the same plan gives the same text."""
    text = LAUNCHERS[name](plan(tmp_path))
    assert str(tmp_path / "runs" / "run-0198C2ab_7") in text
    assert "trainer.finetune" in text
    assert text.endswith("\n")
    assert text == LAUNCHERS[name](plan(tmp_path))


@pytest.mark.parametrize("name", ["local", "accelerate", "slurm"])
def test_path_with_odd_characters_is_one_word_to_the_shell(name: str, tmp_path: Path) -> None:
    """A folder's name is never a command."""
    job = plan(tmp_path / ODD)
    words = [
        word
        for line in LAUNCHERS[name](job).splitlines()
        if "trainer.finetune" in line
        for word in shlex.split(line)
    ]
    assert str(job.folder) in words


# --- Slurm --------------------------------------------------------------------------------


def directives(script: str) -> dict[str, str]:
    """The #SBATCH lines, as sbatch reads them: until the first command, quotes taken off."""
    found = {}
    for line in script.splitlines()[1:]:
        if not line.startswith("#"):
            break
        if line.startswith("#SBATCH "):
            [word] = shlex.split(line.removeprefix("#SBATCH "))
            name, _, text = word.removeprefix("--").partition("=")
            found[name] = text
    return found


def test_slurm_script_asks_for_what_the_settings_say(tmp_path: Path) -> None:
    """Every directive, and none for what nobody asked for."""
    script = LAUNCHERS["slurm"](plan(tmp_path, limits=ResourceLimits(memory_mb=4096, cpus=8)))
    assert directives(script) == {
        "job-name": "run-0198C2ab_7",
        "output": f"{tmp_path}/runs/run-0198C2ab_7/slurm-%j.txt",
        "open-mode": "append",
        "nodes": "1",
        "ntasks": "1",
        "signal": "TERM@120",
        "cpus-per-task": "8",
        "mem": "4096M",
        "gres": "gpu:2",
        "time": "90",
        "partition": "gpu,long",
        "account": "lab-1",
        "requeue": "",
    }
    modest = directives(LAUNCHERS["slurm"](plan(tmp_path, LaunchSettings())))
    assert not {"mem", "gres", "time", "partition", "account", "cpus-per-task"} & set(modest)


def test_slurm_reads_no_pattern_out_of_a_path(tmp_path: Path) -> None:
    """A percent sign of the folder is written twice, or Slurm would put something in its place."""
    job = plan(tmp_path / "100%j")
    assert directives(LAUNCHERS["slurm"](job))["output"].endswith("/100%%j/runs/run-0198C2ab_7/slurm-%j.txt")  # fmt: skip # noqa: E501


def test_line_break_in_a_path_is_refused(tmp_path: Path) -> None:
    """It would end the header line, and what follows would be a directive of its own."""
    with pytest.raises(Rejected, match="control character"):
        LAUNCHERS["slurm"](plan(tmp_path / "a\n#SBATCH --uid=0"))


def test_setting_cannot_write_a_directive_of_its_own() -> None:
    """Names of partitions, accounts and images hold no spaces, quotes or line breaks."""
    for text in ("gpu --uid=0", "gpu\n#SBATCH", "a'b", "$(id)"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"partition": text}, SlurmSettings)


@pytest.mark.parametrize(
    ("code", "restarts", "queued"),
    [(75, "0", True), (75, "50", False), (0, "0", False), (2, "0", False)],
)
def test_slurm_script_runs_the_job_and_queues_it_again(
    code: int, restarts: str, queued: bool, tmp_path: Path
) -> None:
    """The script itself, under bash, with stand-ins for srun and scontrol that note their words."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, ending in (("srun", f"exit {code}"), ("scontrol", "exit 0")):
        (tools / name).write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/{name}.txt\n{ending}\n'
        )
        (tools / name).chmod(0o755)
    job = plan(tmp_path / ODD, LaunchSettings())
    script = LAUNCHERS["slurm"](job)
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0

    ended = subprocess.run(
        ["bash", "-s"],
        input=script,
        text=True,
        check=False,
        env={
            "PATH": f"{tools}:{os.environ['PATH']}",
            "SLURM_JOB_ID": "42",
            "SLURM_RESTART_COUNT": restarts,
        },
    )

    assert ended.returncode == code
    said = (tmp_path / "srun.txt").read_text().splitlines()
    assert said == [sys.executable, "-m", "trainer.finetune", str(job.folder)]
    told = tmp_path / "scontrol.txt"
    assert (told.read_text().split() if told.exists() else None) == (
        ["requeue", "42"] if queued else None
    )


# --- Kubernetes ---------------------------------------------------------------------------


def schema() -> Any:
    """A validator of Kubernetes' published schema of a batch/v1 Job; no unknown field passes."""
    jsonschema_rs = pytest.importorskip("jsonschema_rs")
    spec = find_spec("kubernetes_validate")
    if spec is None or spec.origin is None:
        pytest.skip("kubernetes-validate, which carries the schemas, is not installed")
    folder = Path(spec.origin).parent / "kubernetes-json-schema" / SCHEMA
    job, rest = (json.loads((folder / n).read_text()) for n in ("job-batch-v1.json", DEFINITIONS))
    registry = jsonschema_rs.Registry([(rest["$id"], rest)])  # else it would ask the network
    return jsonschema_rs.validator_for(job, registry=registry)


def test_kubernetes_manifest_is_valid_by_the_published_schema(tmp_path: Path) -> None:
    """The YAML, read again, as the API server would check it; and a wrong one is not."""
    validator = schema()
    for launch, limits in (
        (CLUSTERS, ResourceLimits(memory_mb=4096, cpus=8)),
        (LaunchSettings(kubernetes=CLUSTERS.kubernetes), ResourceLimits()),
    ):
        written = LAUNCHERS["kubernetes"](plan(tmp_path / ODD, launch, limits))
        found = msgspec.yaml.decode(written)
        assert [str(e) for e in validator.iter_errors(found)] == []
        assert found == manifest(plan(tmp_path / ODD, launch, limits))
    found["spec"]["backOffLimit"] = 5
    assert not validator.is_valid(found)


def test_kubernetes_says_what_each_end_means(tmp_path: Path) -> None:
    """Final exit codes end the Job; asking again and losing the node cost nothing."""
    spec = manifest(plan(tmp_path))["spec"]
    rules = [
        (r["action"], r.get("onExitCodes", {}).get("values") or r["onPodConditions"][0]["type"])
        for r in spec["podFailurePolicy"]["rules"]
    ]
    assert rules == [("FailJob", [2, 5, 6, 7]), ("Ignore", [75]), ("Ignore", "DisruptionTarget")]
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["activeDeadlineSeconds"] == 90 * 60
    [container] = spec["template"]["spec"]["containers"]
    assert container["command"][1:5] == ["-m", "trainer.ranks", "--processes", "2"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    assert container["volumeMounts"][0]["mountPath"] == str(tmp_path)
    assert manifest(plan(tmp_path))["metadata"]["name"] == "run-0198c2ab-7"


@pytest.mark.parametrize("missing", ["image", "claim"])
def test_kubernetes_asks_for_what_it_cannot_guess(missing: str, tmp_path: Path) -> None:
    """Without an image or a volume there is no manifest, but the name of the setting."""
    wanted = msgspec.structs.replace(CLUSTERS.kubernetes, **{missing: ""})
    launch = msgspec.structs.replace(CLUSTERS, kubernetes=wanted)
    with pytest.raises(Misconfigured, match=rf"trainer\.launch\.kubernetes\.{missing}"):
        LAUNCHERS["kubernetes"](plan(tmp_path, launch))
