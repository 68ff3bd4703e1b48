# SPDX-License-Identifier: MIT
"""A new Debian tree, with process ids and mounts of its own, in which packages are installed and Slurm runs.

systemd doesn't run there: systemctl.py stands in for it and starts what units say.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.harness import ROOT
from tests.harness.ports import free_ports

_INIT: Final = (
    "import os,signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN); print('up', flush=True); signal.pause()"
)
# what a host has that runs Slurm; python3 is for systemctl.py
SLURM: Final = ("munge", "slurmctld", "slurmd", "slurm-client", "systemd", "python3")
_ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}


class Tree:
    """A running tree; `path` is its root, seen from here."""

    def __init__(self, path: Path, init: subprocess.Popen[str]) -> None:
        self.path = path
        self._init = init

    def run(self, script: str, *, status: int | None = 0, timeout_s: float = 600, **env: str) -> str:
        """A script in there, in the folder with the packages; what it printed, on both streams.

        Raises:
            AssertionError: it ended with another status; None takes any.
        """
        variables = [f"{name}={value}" for name, value in {**_ENVIRONMENT, **env}.items()]
        child = Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children").read_text().split()[0]
        done = subprocess.run(
            [
                *("nsenter", f"--target={child}", "--mount", "--pid", "--"),
                *("chroot", self.path, "env", "-i", "-C", "/root/packages", *variables),
                *("bash", "-eu", "-o", "pipefail", "-c", script),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
        assert status is None or done.returncode == status, f"ended with {done.returncode}:\n{script}\n{done.stdout}"
        return done.stdout


@contextmanager
def debian_tree(made: Path | None = None) -> Iterator[Tree]:
    """A new tree, or a copy of one that was made before; gone in the end, with all that runs in it."""
    path = Path(tempfile.mkdtemp(prefix="tree-"))
    path.chmod(0o755)
    try:
        if made is not None:
            subprocess.run(["cp", "-a", f"{made}/.", path], check=True)
        subprocess.run([ROOT / "scripts" / "make-tree", path], check=True)
        host = socket.gethostname()
        (path / "etc" / "hostname").write_text(f"{host}\n")
        (path / "etc" / "hosts").write_text(f"127.0.0.1 localhost {host}\n")
        (path / "usr" / "sbin" / "policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
        (path / "usr" / "sbin" / "policy-rc.d").chmod(0o755)
        (path / "root" / "packages").mkdir(exist_ok=True)
        systemctl = path / "usr" / "local" / "bin" / "systemctl"
        shutil.copy(Path(__file__).with_name("systemctl.py"), systemctl)
        systemctl.chmod(0o755)
        mounts = f"mount -t proc proc {path}/proc; mount -t sysfs -o ro sysfs {path}/sys; "
        mounts += f"mount -t tmpfs -o mode=1777 tmpfs {path}/dev/shm; "
        mounts += f"mount -t tmpfs -o mode=755 tmpfs {path}/run; mkdir {path}/run/lock; "
        argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-eu", "-c"]
        argv += [f'{mounts} exec "$0" -c "$1"', sys.executable, _INIT]
        (path / "dev" / "shm").mkdir(exist_ok=True)
        init = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        try:
            assert init.stdout is not None
            assert init.stdout.readline() == "up\n"
            yield Tree(path, init)
        finally:
            init.kill()
            init.communicate()
    finally:
        shutil.rmtree(path, ignore_errors=True)


def run_slurm(tree: Tree) -> None:
    """A site as it is before: Slurm with one node, started, keeping completed jobs nowhere."""
    ports = free_ports(2)
    tree.run(f"apt-get -qq update; apt-get -qq install -y --no-install-recommends {' '.join(SLURM)}")
    (tree.path / "etc" / "slurm" / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    (tree.path / "etc" / "slurm" / "slurm.conf").write_text(
        "\n".join([
            "ClusterName=site",
            f"SlurmctldHost={socket.gethostname()}(127.0.0.1)",
            f"SlurmctldPort={ports[0]}",
            f"SlurmdPort={ports[1]}",
            "SlurmUser=slurm",
            "StateSaveLocation=/var/lib/slurm/slurmctld",
            "SlurmdSpoolDir=/var/lib/slurm/slurmd",
            "SlurmctldLogFile=/var/log/slurm/slurmctld.log",
            "SlurmctldPidFile=/run/slurmctld.pid",
            "ProctrackType=proctrack/pgid",
            "TaskPlugin=task/none",
            "JobAcctGatherType=jobacct_gather/none",
            "SelectType=select/cons_tres",
            "SlurmdParameters=config_overrides",
            "ReturnToService=2",
            "JobCompType=jobcomp/none",
            f"NodeName={socket.gethostname()} NodeAddr=127.0.0.1 CPUs=4 RealMemory=512 State=UNKNOWN",
            "PartitionName=main Nodes=ALL Default=YES State=UP",
            "",
        ])
    )  # fmt: skip
    tree.run("mkdir -p /var/lib/slurm/slurmctld /var/lib/slurm/slurmd /var/log/slurm /run/munge")
    tree.run("chown slurm: /var/lib/slurm/slurmctld /var/log/slurm; chown munge: /run/munge")
    tree.run("systemctl start munge slurmctld slurmd")
    tree.run("for n in $(seq 100); do sinfo -h -o %T | grep -qx idle && exit 0; sleep 0.2; done; sinfo -R; exit 1")
