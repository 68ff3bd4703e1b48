# SPDX-License-Identifier: MIT
"""The files in systemd/ do what they say, as far as that shows without systemd as process 1."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.harness import ROOT, Daemon, wait_until
from tests.harness.daemon import accepts
from tests.harness.paths import program
from tests.harness.process import Process

UNITS = ROOT / "systemd"
NAMES = ["slurmjcd.service", "slurmjcd-ingest.socket", "slurmjcd-query.socket"]
# of 10; 1.3 is what systemd 252 says, see `systemd-analyze security --offline=true`
EXPOSURE_MAX = 1.5


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with the daemon where this tree has it: verify insists that ExecStart exists."""
    for name in NAMES:
        text = (UNITS / name).read_text().replace("/usr/bin/slurmjcd", program("slurmjcd"))
        (tmp_path / name).write_text(text)
    return tmp_path


def run(*argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


def test_systemd_finds_nothing_wrong_with_the_units(units: Path) -> None:
    done = run("systemd-analyze", "verify", *(f"./{name}" for name in NAMES), cwd=units)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_verify_sees_a_misspelt_setting(units: Path) -> None:
    service = units / "slurmjcd.service"
    service.write_text(service.read_text().replace("ProtectSystem=", "ProtectSistem="))
    done = run("systemd-analyze", "verify", "./slurmjcd.service", cwd=units)
    assert "ProtectSistem" in done.stderr


def test_the_service_is_hardened(units: Path) -> None:
    done = run("systemd-analyze", "security", "--offline=true", "./slurmjcd.service", cwd=units)
    found = re.search(r"Overall exposure level for slurmjcd.service: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= EXPOSURE_MAX


def test_the_user_and_the_directories_are_made(tmp_path: Path) -> None:
    for path in ("etc", "run"):
        (tmp_path / path).mkdir()
    (tmp_path / "etc" / "passwd").write_text("slurm:x:64030:64030::/:/bin/false\n")
    (tmp_path / "etc" / "group").write_text("slurm:x:64030:\n")
    sysusers, tmpfiles = UNITS / "sysusers.d" / "slurmjcd.conf", UNITS / "tmpfiles.d" / "slurmjcd.conf"

    done = run("systemd-sysusers", f"--root={tmp_path}", str(sysusers), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    user = next(line for line in (tmp_path / "etc" / "passwd").read_text().splitlines() if line.startswith("slurmjcd:"))
    assert user.split(":")[5] == "/var/lib/slurmjcd"

    done = run("systemd-tmpfiles", "--create", f"--root={tmp_path}", str(tmpfiles), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ring, sockets = (tmp_path / "run" / name for name in ("slurmjcd-ring", "slurmjcd"))
    assert (ring.stat().st_mode & 0o777, ring.stat().st_uid) == (0o700, 64030)
    assert (sockets.stat().st_mode & 0o777, sockets.stat().st_uid) == (0o755, int(user.split(":")[2]))


def test_the_daemon_serves_the_sockets_that_systemd_passes(rundir: Path) -> None:
    activate = shutil.which("systemd-socket-activate")
    assert activate is not None
    daemon = Daemon(rundir / "jc", settings={"redis": {"address": f"unix:{rundir}/no-such-redis.sock"}})
    names = ["--fdname=ingest:query"]
    process = Process(
        [
            activate,
            f"--listen={daemon.ingest_socket}",
            f"--listen={daemon.query_socket}",
            *names,
            program("slurmjcd"),
            "run",
            "--config",
            daemon.conf,
        ],
        log=rundir / "activate.log",
    )
    process.start()
    try:
        # a connection is what makes systemd start the daemon
        process.wait_ready(lambda: accepts(daemon.query_socket))
        wait_until(lambda: accepts(daemon.health_socket), what="the daemon to run")
        assert not (daemon.run_dir / "ingest.sock.lock").exists(), "it made a socket of its own"
    finally:
        process.stop()
    # they are systemd's, so they stay
    assert daemon.ingest_socket.exists()
    assert daemon.query_socket.exists()
