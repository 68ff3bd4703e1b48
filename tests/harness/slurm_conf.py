# SPDX-License-Identifier: MIT
"""The text of a slurm.conf for one cluster on one host."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.harness.paths import PLUGIN
from tests.harness.rundir import ring_dir


@dataclass(frozen=True)
class SlurmOptions:
    """What a test may want different.

    Attributes:
        nodes: how many virtual nodes n1, n2, … there are, a slurmd each.
        job_comp_loc: None leaves the setting out.
        job_comp_params: what stands beside ring_dir, which is always in the run's own directory on tmpfs.
        plugin: jobcomp_redis.so; it is copied, so that neither a build meanwhile nor a user who may not
            enter our tree does harm.
        extra: further settings; a value given here replaces the one of this file.
    """

    cluster: str = "demo"
    nodes: int = 2
    cpus: int = 8
    job_comp_type: str = "jobcomp/redis"
    job_comp_loc: str | None = None
    job_comp_params: str = ""
    plugin: Path = PLUGIN
    extra: Mapping[str, str] = field(default_factory=dict)


def _job_comp_params(directory: Path, options: SlurmOptions) -> dict[str, str]:
    if options.job_comp_type != "jobcomp/redis":
        return {"JobCompParams": options.job_comp_params} if options.job_comp_params else {}
    ring = f"ring_dir={ring_dir(directory)}"
    return {"JobCompParams": ",".join(filter(None, [ring, options.job_comp_params]))}


@cache
def slurm_plugin_dir() -> Path:
    """Where the installed Slurm keeps its plugins."""
    arch = subprocess.run(["gcc", "-print-multiarch"], capture_output=True, text=True, check=False).stdout.strip()
    places = [
        f"/usr/lib/{arch}/slurm-wlm",
        f"/usr/lib/{arch}/slurm",
        "/usr/lib64/slurm",
        "/usr/lib/slurm",
        "/usr/local/lib/slurm",
    ]
    for place in map(Path, places):
        # every release has that one, jobcomp_none.so is gone since 23.11
        if (place / "jobcomp_filetxt.so").exists():
            return place
    raise FileNotFoundError(f"Slurm's plugins are in none of {', '.join(places)}")


@cache
def slurm_version() -> tuple[int, ...]:
    """Of the installed Slurm: year, month, patch."""
    shown = subprocess.run(["/usr/sbin/slurmctld", "-V"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in shown.split()[-1].split("-")[0].split("."))


def slurm_conf(directory: Path, munge_socket: Path, ports: list[int], options: SlurmOptions) -> str:
    """The file's text.

    Args:
        ports: slurmctld's port, then one for each node.
    """
    host = socket.gethostname().split(".")[0]
    settings = {
        "ClusterName": options.cluster,
        "SlurmctldHost": f"{host}(127.0.0.1)",
        "SlurmctldPort": str(ports[0]),
        "AuthType": "auth/munge",
        "CredType": "cred/munge",
        "AuthInfo": f"socket={munge_socket}",
        "SlurmUser": "root",
        "SlurmdUser": "root",
        "PluginDir": f"{directory / 'plugins'}:{slurm_plugin_dir()}",
        "StateSaveLocation": str(directory / "state"),
        "SlurmdSpoolDir": str(directory / "spool.%n"),
        "SlurmctldPidFile": str(directory / "slurmctld.pid"),
        "SlurmdPidFile": str(directory / "slurmd.%n.pid"),
        "SlurmctldLogFile": str(directory / "slurmctld.log"),
        "SlurmdLogFile": str(directory / "slurmd.%n.log"),
        "SlurmctldDebug": "verbose",
        "ProctrackType": "proctrack/pgid",
        "TaskPlugin": "task/none",
        "JobAcctGatherType": "jobacct_gather/none",
        "AccountingStorageType": "accounting_storage/none",
        "SwitchType": "switch/none",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core",
        "SchedulerType": "sched/backfill",
        "SchedulerParameters": "batch_sched_delay=0,sched_interval=1,sched_min_interval=100000,bf_interval=1",
        # the nodes pretend to have more CPUs than this host
        "SlurmdParameters": "config_overrides",
        "ReturnToService": "2",
        "KillWait": "1",
        "MinJobAge": "3600",
        "OverTimeLimit": "0",
        "InactiveLimit": "0",
        "MaxArraySize": "1001",
        "MaxJobCount": "50000",
        "JobCompType": options.job_comp_type,
        **({} if options.job_comp_loc is None else {"JobCompLoc": options.job_comp_loc}),
        **_job_comp_params(directory, options),
        **options.extra,
    }
    lines = [f"{name}={value}" for name, value in settings.items()]
    lines += [
        f"NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={options.cpus} "
        f"RealMemory=1024 Features=fast,rack{number} State=UNKNOWN"
        for number, port in enumerate(ports[1:], 1)
    ]
    lines += [
        "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP",
        "PartitionName=short Nodes=ALL MaxTime=60 DefaultTime=10 State=UP",
    ]
    return "\n".join(lines) + "\n"
