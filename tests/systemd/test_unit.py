"""The systemd units, checked by systemd's own analyser."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from daemon.settings import Settings, load

ROOT = Path(__file__).resolve().parent.parent.parent
SERVICE = ROOT / "systemd" / "bhavana.service"
SOCKET = ROOT / "systemd" / "bhavana.socket"
MOST_EXPOSED = 1.5
"""Of systemd's ten; what remains is the network, /proc/cpuinfo for torch, and compiled code."""
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed"
)


def _analyse(*arguments):
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True)


@pytest.fixture
def units(tmp_path):
    """The units in a folder of their own, with the paths of this checkout in place."""

    def here(path):
        text = path.read_text().replace("/opt/bhavana/.venv/bin/python", sys.executable)
        (tmp_path / path.name).write_text(text.replace("/opt/bhavana", str(ROOT)))
        return str(tmp_path / path.name)

    return [here(SERVICE), here(SOCKET)]


@needs_systemd
@pytest.mark.parametrize("which", [slice(2), slice(1)], ids=["both units", "the service alone"])
def test_systemd_finds_no_fault_in_the_units(units, which):
    """`systemd-analyze verify` is silent; the service needs no socket unit."""
    seen = _analyse("verify", "--man=no", *units[which])

    assert (seen.returncode, seen.stdout + seen.stderr) == (0, "")


@needs_systemd
def test_systemd_finds_the_service_little_exposed(units):
    """The figure of `systemd-analyze security` stays at or under our bar."""
    seen = _analyse("security", "--offline=yes", "--no-pager", units[0])
    if seen.returncode != 0:
        pytest.skip("this systemd cannot analyse a unit offline")

    [figure] = re.findall(r"exposure level for bhavana.service: ([0-9.]+)", seen.stdout)
    assert float(figure) <= MOST_EXPOSED


def test_the_units_agree_with_the_settings():
    """Port, time to stop and number of connections stand in both, and must not contradict."""
    server = Settings().server
    service, listening = SERVICE.read_text(), SOCKET.read_text()
    [stop] = re.findall(r"^TimeoutStopSec=(\d+)$", service, re.MULTILINE)
    [files] = re.findall(r"^LimitNOFILE=(\d+)$", service, re.MULTILINE)

    assert f"ListenStream={server.host}:{server.port}\n" in listening
    assert server.stop_seconds + 5 <= int(stop) <= 30
    assert int(files) >= 2 * server.most_connections


def test_the_unit_says_what_the_daemon_relies_on():
    """Readiness, watchdog, its own user and state, and no memory rule that breaks bfloat16."""
    lines = SERVICE.read_text().splitlines()

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
