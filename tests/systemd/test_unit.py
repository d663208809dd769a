"""The systemd unit, checked by systemd's own analyser."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from daemon.settings import load

ROOT = Path(__file__).resolve().parent.parent.parent
UNIT = ROOT / "systemd" / "bhavana.service"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_no_fault_in_the_unit(tmp_path):
    """`systemd-analyze verify` is silent, with the paths of this checkout in place."""
    text = UNIT.read_text().replace("/opt/bhavana/.venv/bin/python", sys.executable)
    unit = tmp_path / "bhavana.service"
    unit.write_text(text.replace("/opt/bhavana", str(ROOT)))

    seen = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True
    )

    assert (seen.returncode, seen.stdout + seen.stderr) == (0, "")


def test_the_unit_says_what_the_daemon_relies_on():
    """Readiness, watchdog, its own user and state, and no memory rule that breaks bfloat16."""
    lines = UNIT.read_text().splitlines()

    assert {"Type=notify", "User=bhavana", "StateDirectory=bhavana"} <= set(lines)
    assert any(line.startswith("WatchdogSec=") for line in lines)
    assert not any(line.startswith("MemoryDenyWriteExecute") for line in lines)


def test_the_example_configuration_is_accepted(tmp_path):
    """A user may copy the example as it is, and with every commented key switched on."""
    example = ROOT / "systemd" / "bhavana.toml.example"
    copied = tmp_path / "bhavana.toml"
    copied.write_text(example.read_text().replace("\n#data_dir", "\ndata_dir"))

    written = tomllib.loads(copied.read_text())
    assert load(copied, {}).policy.min_examples == written["policy"]["min_examples"]
