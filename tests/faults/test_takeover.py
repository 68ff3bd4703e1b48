# SPDX-License-Identifier: MIT
"""A backup controller takes over: two slurmctlds, each on a host with a ring and a slurmjcd of its own, one Redis.

The second host is a UTS and a mount namespace: another host name, and its own directories where slurm.conf, which the
two share, names ring and sockets. StateSaveLocation is shared, as Slurm demands.
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults import sacct
from tests.harness import Daemon, Munge, RedisServer, SlurmCluster, SlurmOptions, wait_until
from tests.harness.process import Process
from tests.harness.rundir import ring_dir
from tests.harness.slurm_conf import slurm_conf

BACKUP = "backup"
ON_BACKUP = """hostname "$1" && shift
while [ "$1" != -- ]; do mount --bind "$1" "$2" && shift 2 || exit; done
shift; exec "$@"
"""
TIMEOUT_S = 5  # SlurmctldTimeout: how long the primary is silent before the backup takes over


class TwoControllers(SlurmCluster):
    """A cluster whose slurm.conf names two controllers; `slurmctld` is the primary, `backup` the other."""

    def write_conf(self, options: SlurmOptions) -> None:
        super().write_conf(options)
        host = socket.gethostname().split(".")[0]
        first = f"SlurmctldHost={host}(127.0.0.1)\n"
        text = slurm_conf(self.directory, self._munge_socket, self._ports, options)
        assert first in text
        self.conf.write_text(text.replace(first, f"{first}SlurmctldHost={BACKUP}(127.0.0.2)\n"))

    def add_backup(self, mounts: dict[Path, Path]) -> None:
        """Make the second host: what is mounted where on it."""
        hosts = self.directory / "hosts"
        hosts.write_text(f"127.0.0.2 {BACKUP}\n{Path('/etc/hosts').read_text()}")
        mounts = {**mounts, hosts: Path("/etc/hosts")}
        words: list[str | Path] = ["unshare", "--uts", "--mount", "sh", "-c", ON_BACKUP, "sh", BACKUP]
        for source, target in mounts.items():
            words += [source, target]
        log = self.directory / "slurmctld.backup.log"
        words += ["--", "/usr/sbin/slurmctld", "-D", "-f", self.conf, "-L", log]
        self.backup = Process(words, log=self.directory / "slurmctld.backup.out", env=self.env)

    def controllers_up(self) -> tuple[bool, bool]:
        """Whether the primary and the backup answer, as controller or standing by."""
        lines = self.call("scontrol", "ping").stdout.splitlines()
        up = [line.endswith("is UP") for line in lines if line.startswith("Slurmctld(")]
        return (up[0], up[1]) if len(up) == 2 else (False, False)

    def backup_rules(self) -> bool:
        """Whether the backup is the one that schedules."""
        text = self.backup.log.with_name("slurmctld.backup.log").read_text(errors="replace")
        return text.rfind("Running as primary controller") > text.rfind("slurmctld running in background mode")


@dataclass
class Site:
    """Everything of the two hosts."""

    redis: RedisServer
    daemon: Daemon  # on the primary's host
    other: Daemon  # on the backup's
    cluster: TwoControllers
    directory: Path

    def run_jobs(self, count: int) -> list[int]:
        """Jobs that have ended."""
        ids = [self.cluster.sbatch("true") for _ in range(count)]
        self.cluster.wait_ended(ids)
        return ids

    def stored(self) -> Counter[int]:
        """How many runs of each job Redis has, as sacct -c lists them."""
        return sacct.job_ids(self.directory / "sacct", self.daemon.run_dir, cluster=self.cluster.options.cluster)

    def check(self, ids: list[int]) -> None:
        """Each of these jobs is there once, and nothing else."""
        want = Counter(ids)
        wait_until(lambda: self.stored() == want, what=lambda: f"{sorted(want)}, sacct -c has {self.stored()}")
        rows = {job_id: self.redis.client().execute_command("SLURMJC.GET", "job", str(job_id)) for job_id in ids}
        assert {job_id: len(runs) for job_id, runs in rows.items()} == dict.fromkeys(ids, 1)


@pytest.fixture
def site(
    rundir: Path,
    munge: Munge,
    stopper: ExitStack,
    make_redis: Callable[..., RedisServer],
    make_daemon: Callable[..., Daemon],
) -> Site:
    redis = make_redis(options={"appendonly": "yes", "appendfsync": "always"})
    daemon, other = (make_daemon(name, redis_address=redis.address) for name in ("jc", "jc2"))
    pids, other_pids = rundir / "pid", rundir / "pid2"  # slurmctld ends the one whose process id it finds at its start
    for path in (pids, other_pids):
        path.mkdir()
    extra = {
        "SlurmctldTimeout": str(TIMEOUT_S),
        "CommunicationParameters": "NoCtldInAddrAny",
        "SlurmctldPidFile": str(pids / "slurmctld.pid"),
    }
    options = SlurmOptions(nodes=1, job_comp_loc=str(daemon.run_dir), extra=extra)
    cluster = TwoControllers(rundir / "slurm", munge.socket, options)
    ring, other_ring = ring_dir(rundir / "slurm"), ring_dir(rundir / "slurm2")
    for path in (ring, other_ring):
        path.mkdir(mode=0o700)
    cluster.add_backup({other_ring: ring, other.run_dir: daemon.run_dir, other_pids: pids})
    stopper.callback(cluster.stop)
    cluster.start()
    cluster.backup.start()
    stopper.callback(cluster.backup.stop)
    cluster.backup.wait_ready(lambda: cluster.controllers_up() == (True, True))
    return Site(redis, daemon, other, cluster, rundir)


def test_takeover_by_command_keeps_each_job_once(site: Site) -> None:
    """What the primary's host still has to deliver comes from there or, spilled, from the backup's host."""
    ids = site.run_jobs(3)
    site.check(ids)
    site.daemon.stop()
    ids += site.run_jobs(4)
    site.cluster.run("scontrol", "takeover")
    wait_until(site.cluster.backup_rules, what="the backup to rule")
    ids += site.run_jobs(3)
    site.daemon.start()
    if not site.cluster.slurmctld.running:
        site.cluster.slurmctld.start()
    site.check(ids)
    wait_until(lambda: not site.cluster.backup_rules(), what="the primary to rule again", timeout_s=60)
    ids += site.run_jobs(2)
    site.check(ids)


def saved(cluster: SlurmCluster) -> float:
    """When slurmctld last saved its jobs; what it was told since then dies with it."""
    path = cluster.state_dir / "job_state"
    return path.stat().st_mtime if path.exists() else 0.0


def test_takeover_after_the_primary_was_killed_keeps_each_job_once(site: Site) -> None:
    """Ended before, running at, and ended after the death of the primary, whose host delivers when it is back."""
    cluster = site.cluster
    site.daemon.stop()
    ids = site.run_jobs(4)  # in the primary's ring only
    running = [cluster.sbatch("sleep 15") for _ in range(3)]
    last = cluster.sbatch("sleep 4")
    for job_id in [*running, last]:
        cluster.wait_state(job_id, "RUNNING")
    started = time.time()
    wait_until(lambda: saved(cluster) > started, what="slurmctld to save that they run")
    # its end is in the ring, and most likely not in the state that the backup reads, which then tells it again
    cluster.wait_ended([last])
    cluster.slurmctld.kill()
    wait_until(cluster.backup_rules, what="the backup to rule", timeout_s=90)
    cluster.call("scancel", str(last))  # for the backup it runs still, so the same run is told once more
    cluster.wait_ended([*running, last], timeout_s=90)
    ids += [*running, last, *site.run_jobs(3)]
    site.daemon.start()
    cluster.slurmctld.start()
    wait_until(lambda: not cluster.backup_rules(), what="the primary to rule again", timeout_s=60)
    site.check(ids)
    ids += site.run_jobs(2)
    site.check(ids)
