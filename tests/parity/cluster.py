# SPDX-License-Identifier: MIT
"""MariaDB, slurmdbd, slurmctld and a handful of virtual nodes, inside the sandbox."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.harness import PLUGIN
from tests.harness.slurm_conf import slurm_plugin_dir

from .sandbox import HOSTNAME, Clock, RigError

CLUSTER = "parity"
NODES = 8
# name, features: what --constraint finds
NODE_FEATURES = {"n[1-4]": "fast,BigMem", "n[5-8]": "slow"}

_SLURM_CONF = """\
ClusterName={cluster}
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5
CredType=cred/munge
StateSaveLocation={top}/state
SlurmdSpoolDir={top}/spool.%n
SlurmctldPidFile={top}/slurmctld.pid
SlurmdPidFile={top}/slurmd.%n.pid
SlurmctldLogFile={top}/slurmctld.log
SlurmdLogFile={top}/slurmd.%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1,default_queue_depth=1000
PriorityType=priority/multifactor
PriorityWeightQOS=1000
PreemptType=preempt/qos
PreemptMode=REQUEUE
JobRequeue=1
RequeueExit=99
ReturnToService=0
KillWait=1
MinJobAge=3600
MaxJobCount=20000
InactiveLimit=0
OverTimeLimit=0
MpiDefault=none
SwitchType=switch/none
MailProg=/bin/true
PropagateResourceLimits=NONE
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStorageEnforce=associations,limits,qos
TrackWCKey=yes
Licenses=ansys:4
JobCompType={jobcomp_type}
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=60 State=UP
PartitionName=debug Nodes=n[1-2] MaxTime=30 State=UP
PartitionName=Long Nodes=n[5-8] MaxTime=INFINITE State=UP
PartitionName=closed Nodes=ALL MaxTime=INFINITE State=DOWN
"""

_SLURMDBD_CONF = """\
AuthType=auth/munge
DbdHost=localhost
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
LogFile={top}/slurmdbd.log
PidFile={top}/slurmdbd.pid
TrackWCKey=yes
"""


def wait_for(what: str, condition: Callable[[], object], *, seconds: float = 60.0, every: float = 0.1) -> None:
    """Poll `condition` until it is true.

    Raises RigError, naming `what`, when that takes longer than `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RigError(f"waited {seconds:.0f} s for {what}")
        time.sleep(every)


@dataclass
class Cluster:
    """The daemons of one run. Every process is stopped by the handle it was started with."""

    top: Path
    clock: Clock
    jobcomp_type: str = "jobcomp/none"
    jobcomp_loc: str = ""
    plugin_dir: Path | None = None
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def env(self) -> dict[str, str]:
        """Environment of a client. It lives in the machine's own time: sbatch gives its environment to the job,
        and libfaketime's shared memory doesn't outlive sbatch."""
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG")}
        return kept | {"SLURM_CONF": str(self.top / "slurm.conf"), "TZ": "UTC"}

    def install_plugin(self, sockets: Path) -> None:
        """Copy our plugin to where users may read it; `sockets` is the directory slurmjcd listens in."""
        self.plugin_dir = self.top / "plugins"
        self.plugin_dir.mkdir()
        shutil.copy(PLUGIN, self.plugin_dir)
        self.jobcomp_loc = str(sockets)

    def start_accounting(self) -> None:
        """Start munged, MariaDB and slurmdbd."""
        self._start_munge()
        self._start_mariadb()
        self.configure()
        self.spawn("slurmdbd", ["slurmdbd", "-D"])
        wait_for("slurmdbd", lambda: self.try_run("sacctmgr", "-n", "show", "cluster").returncode == 0)
        self.run("sacctmgr", "-i", "add", "cluster", CLUSTER)

    def start_slurm(self) -> None:
        """Start slurmctld and the nodes, and wait until they are idle."""
        (self.top / "state").mkdir()
        self._start_slurmctld()
        for number in range(1, NODES + 1):
            self.start_node(f"n{number}")
        wait_for("idle nodes", lambda: len(self._idle_nodes()) == NODES)

    def restart_slurmctld(self) -> None:
        """Stop slurmctld as an administrator would, start it again and wait until it answers."""
        self._running["slurmctld"].terminate()
        self._running.pop("slurmctld").wait(60)
        self._start_slurmctld()
        wait_for("slurmctld", lambda: "is UP" in self.try_run("scontrol", "ping").stdout)

    def _start_slurmctld(self) -> None:
        self.spawn("slurmctld", ["slurmctld", "-D"])

    def start_node(self, name: str) -> None:
        spool = self.top / f"spool.{name}"
        spool.mkdir(exist_ok=True)
        self.spawn(f"slurmd.{name}", ["slurmd", "-D", "-N", name])

    def kill(self, name: str) -> None:
        """Kill a daemon with SIGKILL, as a power cut would."""
        process = self._running.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """Stop everything, the last started first."""
        for name in reversed(list(self._running)):
            self._running[name].terminate()
            try:
                self._running[name].wait(20)
            except subprocess.TimeoutExpired:
                self.kill(name)
        self._running.clear()

    def spawn(self, name: str, command: Sequence[str]) -> None:
        """Start a daemon in the sandbox's time, its output in `<top>/<name>.out`."""
        with (self.top / f"{name}.out").open("ab") as output:
            self._running[name] = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=self.env() | self.clock.running()
            )

    def died(self) -> list[str]:
        """Names of daemons that are no longer there."""
        return [name for name, process in self._running.items() if process.poll() is not None]

    def try_run(
        self, *command: str, user: int = 0, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a client as `user` (uid = gid); stdout and stderr as text, undecodable bytes replaced."""
        return subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=self.env() | (env or {}),
            user=user,
            group=user,
            extra_groups=[],
            cwd="/tmp",
            check=False,
            timeout=120,
        )

    def run(self, *command: str, user: int = 0) -> str:
        """Run a client that must succeed; its stdout, stripped."""
        done = self.try_run(*command, user=user)
        if done.returncode:
            raise RigError(f"{' '.join(command)}: exit {done.returncode}: {(done.stderr or done.stdout).strip()}")
        return done.stdout.strip()

    def _idle_nodes(self) -> list[str]:
        return self.try_run("sinfo", "-h", "-N", "-p", "main", "-t", "idle", "-o", "%N").stdout.split()

    def _start_munge(self) -> None:
        socket = Path("/run/munge/munge.socket.2")
        socket.parent.mkdir(mode=0o755)
        key = self.top / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        files = [f"--{kind}-file={self.top}/munged.{kind}" for kind in ("pid", "log", "seed")]
        self.spawn("munged", ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={socket}", *files])
        wait_for("munge", lambda: self.try_run("munge", "-n").returncode == 0)

    def _start_mariadb(self) -> None:
        data = self.top / "mysql"
        Path("/run/mysqld").mkdir(mode=0o755)
        install = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--user=root"]
        self.run(*install, "--auth-root-authentication-method=normal", "--skip-test-db")
        server = shutil.which("mariadbd") or "/usr/sbin/mariadbd"
        socket = "/run/mysqld/mysqld.sock"
        options = ["--skip-networking", "--innodb-flush-log-at-trx-commit=0"]
        self.spawn(
            "mariadbd", [server, "--no-defaults", f"--datadir={data}", "--user=root", f"--socket={socket}", *options]
        )
        # the server's certificate, where it makes one, begins in the client's future
        ping = ("mariadb-admin", "--no-defaults", "--skip-ssl", f"--socket={socket}", "ping")
        wait_for("MariaDB", lambda: self.try_run(*ping).returncode == 0)
        # slurmdbd would create it, but a connection of libmariadb 11.8.9's that was first refused takes no columns
        create = ("mariadb", "--no-defaults", "--skip-ssl", f"--socket={socket}", "-e", "CREATE DATABASE slurm_acct_db")
        self.run(*create)

    def configure(self) -> None:
        lines: list[str] = []
        for names, features in NODE_FEATURES.items():
            low, high = names[2:-1].split("-")
            ports = f"[{17000 + int(low)}-{17000 + int(high)}]"
            lines.append(
                f"NodeName={names} NodeHostname={HOSTNAME} NodeAddr=127.0.0.1 Port={ports} CPUs=16 RealMemory=4000 "
                f"Feature={features} State=UNKNOWN"
            )
        text = _SLURM_CONF.format(
            cluster=CLUSTER,
            host=HOSTNAME,
            top=self.top,
            nodes="\n".join(lines),
            jobcomp_type=self.jobcomp_type,
        )
        if self.jobcomp_loc:
            text += f"JobCompLoc={self.jobcomp_loc}\n"
        if self.plugin_dir:
            text += f"PluginDir={self.plugin_dir}:{slurm_plugin_dir()}\n"
        (self.top / "slurm.conf").write_text(text)
        # newer slurmd wants cgroups or to be told that there are none worth looking for
        (self.top / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        database = self.top / "slurmdbd.conf"
        database.write_text(_SLURMDBD_CONF.format(top=self.top))
        database.chmod(0o600)


def logs(top: Path) -> Iterable[Path]:
    """Every log file of a run."""
    yield from sorted([*top.glob("*.log"), *top.glob("*.out"), *top.glob("*.err")])
