# SPDX-License-Identifier: MIT
"""Wrong settings and foreign files: one clear line for each, and slurmctld starts and runs jobs all the same."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness import Daemon, Munge, RedisServer, SlurmCluster, SlurmOptions, wait_until
from tests.harness.paths import program
from tests.harness.rundir import ring_dir
from tests.harness.stack import Stack


@contextmanager
def running(cluster: SlurmCluster) -> Iterator[SlurmCluster]:
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def lines_of(cluster: SlurmCluster) -> list[str]:
    """What the plugin complained about, as often as it did."""
    found = [
        line.partition("jobcomp/redis: ")[2] for line in cluster.slurmctld.log_text().splitlines() if "error:" in line
    ]
    return list(filter(None, found))


def runs_a_job(cluster: SlurmCluster) -> None:
    job_id = cluster.sbatch("exit 4")
    (job,) = cluster.wait_ended([job_id]).values()
    assert (job["JobState"], job["ExitCode"]) == ("FAILED", "4:0")


# --- slurm.conf ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "complaint"),
    [
        ("{dir}/missing", "{dir}/missing/ingest.sock"),
        ("{dir}/file", "{dir}/file/ingest.sock"),
        ("relative/path", "JobCompLoc=relative/path is no absolute path"),
        ("/" + "x" * 110, "a socket's path leaves room for"),
    ],
    ids=["missing directory", "a file", "relative", "too long"],
)
def test_a_wrong_socket_directory(rundir: Path, munge: Munge, location: str, complaint: str) -> None:
    (rundir / "file").write_text("not a directory")
    options = SlurmOptions(nodes=1, job_comp_loc=location.format(dir=rundir))
    with running(SlurmCluster(rundir / "slurm", munge.socket, options)) as cluster:
        runs_a_job(cluster)
        text = complaint.format(dir=rundir)
        wait_until(
            lambda: [line for line in lines_of(cluster) if text in line],
            what=lambda: f"the plugin to say '{text}'; it says {lines_of(cluster)}",
        )


@pytest.mark.parametrize(
    ("params", "complaint"),
    [
        ("nonsense", "unknown option nonsense, expected ring_dir="),
        ("ring_mib=-1", "ring_mib=-1 is not a number from 1 to 1024, using 32"),
        ("timeout=1e9", "timeout=1e9 is not a number from 1 to 3600, using 10"),
        ("spill_mib=", "spill_mib= is not a number from 0 to"),
    ],
)
def test_nonsense_in_job_comp_params(make_stack: Callable[..., Stack], params: str, complaint: str) -> None:
    stack = make_stack(slurm_options=SlurmOptions(nodes=1, job_comp_params=params))
    runs_a_job(stack.cluster)
    stack.wait_stored(1)
    (line,) = lines_of(stack.cluster)
    assert complaint in line


def test_a_ring_directory_that_others_may_enter(rundir: Path, munge: Munge, make_daemon: Callable[..., Daemon]) -> None:
    cluster = SlurmCluster(rundir / "slurm", munge.socket, SlurmOptions(nodes=1, job_comp_loc=str(rundir)))
    wrong = ring_dir(rundir / "slurm")
    wrong.mkdir(mode=0o777)
    wrong.chmod(0o777)
    with running(cluster):
        runs_a_job(cluster)
        assert any(
            f"ring_dir={wrong} must be a directory of uid 0 with mode 0700" in line for line in lines_of(cluster)
        )


# --- files the plugin finds -----------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"something else" * 1000], ids=["empty", "foreign"])
def test_a_ring_that_is_none_is_set_aside(make_stack: Callable[..., Stack], content: bytes) -> None:
    stack = make_stack(slurm_options=SlurmOptions(nodes=1))
    stack.cluster.slurmctld.kill()
    (ring,) = ring_dir(stack.cluster.directory).glob("*.ring")
    ring.write_bytes(content)
    stack.cluster.start_controller()
    runs_a_job(stack.cluster)
    stack.wait_stored(1)
    if content:
        assert any(str(ring) in line for line in lines_of(stack.cluster))


@pytest.mark.parametrize("rebooted", [False, True], ids=["", "rebooted"])
@pytest.mark.parametrize("content", [b"", b"something else" * 1000], ids=["empty", "foreign"])
def test_a_spill_file_that_is_none_is_set_aside(
    make_stack: Callable[..., Stack], content: bytes, rebooted: bool
) -> None:
    stack = make_stack(slurm_options=SlurmOptions(nodes=1))
    stack.daemon.stop()
    runs_a_job(stack.cluster)
    before = set(stack.cluster.state_dir.iterdir())
    stack.cluster.slurmctld.stop()
    spills = [path for path in stack.cluster.state_dir.iterdir() if path not in before and "spill" in path.name]
    assert len(spills) == 1, "stopping without a daemon should have left a spill file"
    spills[0].write_bytes(content)
    if rebooted:
        for ring in ring_dir(stack.cluster.directory).glob("*.ring"):
            ring.unlink()
    stack.daemon.start()
    stack.cluster.start_controller()
    runs_a_job(stack.cluster)
    stack.wait_stored(1)
    if content:
        wait_until(
            lambda: any(str(spills[0]) in line for line in lines_of(stack.cluster)),
            what=lambda: f"the plugin to name {spills[0]}; it says {lines_of(stack.cluster)}",
        )


# --- the daemon and Redis ----------------------------------------------------------------


def refused(daemon: Daemon) -> list[str]:
    """The errors that slurmjcd gives up with."""
    daemon.process.start()
    assert daemon.process.wait() == 1
    return [line for line in daemon.process.log_text().splitlines() if line.startswith("slurmjcd: ")]


@pytest.mark.parametrize(
    ("section", "key", "value", "text"),
    [
        ("redis", "adress", "unix:/x", "unknown key 'redis.adress': did you mean 'redis.address'?"),
        ("spool", "max_bytes", -1, "spool.max_bytes"),
        ("daemon", "run_dir", "relative", "daemon.run_dir: must be an absolute path, not 'relative'"),
        ("daemon", "run_dir", "/" + "x" * 120, "bytes"),
        ("daemon", "run_dir", "/nowhere", "directory /nowhere doesn't exist: mkdir -p /nowhere"),
        ("daemon", "slurm_user", "no-such-user", "daemon.slurm_user: there is no user 'no-such-user' here"),
        ("health", "listen", "0.0.0.0:80", "listen must be a loopback address or unix:/path, not '0.0.0.0:80'"),
    ],
)
def test_a_wrong_configuration_is_refused(rundir: Path, section: str, key: str, value: object, text: str) -> None:
    daemon = Daemon(rundir / "jc", redis_address="unix:/nowhere", settings={section: {key: value}})
    (line,) = refused(daemon)
    assert text in line


def test_a_run_directory_that_everyone_may_write_to_is_refused(rundir: Path) -> None:
    daemon = Daemon(rundir / "jc", redis_address="unix:/nowhere")
    daemon.run_dir.chmod(0o777)
    (line,) = refused(daemon)
    assert f"chmod o-w {daemon.run_dir}" in line


@pytest.mark.parametrize("content", [b"", b"something else" * 1000], ids=["empty", "foreign"])
def test_a_spool_that_is_none(rundir: Path, make_redis: Callable[..., RedisServer], content: bytes) -> None:
    """An empty file is a spool nothing was put in; a foreign one is left alone and named."""
    redis = make_redis()
    daemon = Daemon(rundir / "jc", redis_address=redis.address)
    spool = daemon.state_dir / "spool.db"
    spool.write_bytes(content)
    if content:
        lines = refused(daemon)
        assert len(lines) == 1
        assert str(spool) in lines[0]
        assert spool.read_bytes() == content
    else:
        daemon.start()
        daemon.stop()


def test_a_redis_that_lacks_the_module(
    make_redis: Callable[..., RedisServer], make_daemon: Callable[..., Daemon]
) -> None:
    redis = make_redis(module=None)
    daemon = Daemon(redis.directory.parent / "jc", redis_address=redis.address)
    daemon.start(ready=False)
    try:
        wait_until(lambda: "lacks the module: add 'loadmodule " in daemon.process.log_text(), what="slurmjcd to say so")
        status, body = daemon.get("/readyz")
        assert (status, "lacks the module" in body) == (200, True)
    finally:
        daemon.stop()


def test_a_module_that_the_server_does_not_take(rundir: Path) -> None:
    """A file that is no module: the server says which one and does not start."""
    wrong = rundir / "slurm_jobcomp.so"
    wrong.write_bytes(b"no library")
    wrong.chmod(0o755)
    server = RedisServer(rundir / "redis", module=wrong)
    server.process.start()
    assert server.process.wait() == 1
    assert f"Can't load module from {wrong}" in server.process.log_text()


def test_slurmjcd_check_config_says_what_is_right(rundir: Path) -> None:
    daemon = Daemon(rundir / "jc", redis_address="unix:/nowhere")
    done = subprocess.run(
        [program("slurmjcd"), "check-config", "--config", daemon.conf],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{daemon.conf}: right\n")
