# SPDX-License-Identifier: MIT
"""sacct on a slurm.conf of its own, and the reference users that it has to know."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.harness.paths import CMAKE_BUILD
from tests.harness.slurm_conf import SlurmOptions, slurm_conf

FLOOR: Final = CMAKE_BUILD / "bench" / "jobcomp_floor.so"
FIRST_UID: Final = 20_000
_CLONE_NEWNS: Final = 0x20000
FORMAT: Final = ("-n", "-P", "-o", "jobid,uid,jobname,partition,account,ncpus,state,exitcode,start,end,nodelist")


@dataclass(frozen=True)
class Asked:
    """One run of sacct: rows it printed, seconds in all, those after its plugin had handed the rows over, and its
    processor time.

    `printing_s` is None where nobody noted the moment.
    """

    rows: int
    seconds: float
    printing_s: float | None
    cpu_s: float


class Site:
    """A slurm.conf of its own and sacct under it.

    Args:
        plugin: the completion plugin's file; what is not among Slurm's own is linked beside them.
        kind, location: JobCompType and JobCompLoc.
        floor: put a plugin around it that notes when the rows were handed over.
        env: for sacct, over ours.
    """

    def __init__(
        self, directory: Path, plugin: Path, kind: str, location: str,
        *, floor: bool = False, env: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        (directory / "plugins").mkdir(parents=True)
        loaded = FLOOR if floor else plugin
        (directory / "plugins" / loaded.name).symlink_to(loaded)
        options = SlurmOptions(
            cluster="cluster", job_comp_type="jobcomp/floor" if floor else kind, job_comp_loc=location
        )
        self.conf = directory / "slurm.conf"
        self.conf.write_text(slurm_conf(directory, directory / "munge.sock", [1, 2, 3], options))
        self._env = {**os.environ, "SLURM_CONF": str(self.conf), "TZ": "UTC", **(env or {})}
        if floor:
            self._env["JOBCOMP_FLOOR_PLUGIN"] = str(plugin)

    def sacct(self, *words: str) -> Asked:
        """Ask and take what it prints.

        Raises:
            RuntimeError: sacct failed.
        """
        before, begin = _children_cpu_s(), time.perf_counter()
        done = subprocess.run(["sacct", "-c", "-a", *FORMAT, *words], env=self._env, capture_output=True, check=False)
        ended = time.perf_counter()
        said = done.stderr.decode()
        if done.returncode != 0:
            raise RuntimeError(f"sacct {' '.join(words)}: {said.strip() or done.returncode}")
        _, handed, at = said.partition("handed over at ")
        printing_s = ended - float(at.split()[0]) if handed else None
        return Asked(done.stdout.count(b"\n"), ended - begin, printing_s, _children_cpu_s() - before)


def _children_cpu_s() -> float:
    """Processor time of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def know_users() -> None:
    """Make sacct know the reference users, in a mount namespace of ours: it takes no user the system doesn't know.

    Raises:
        PermissionError: only root may.
    """
    passwd = Path("/etc/passwd").read_text() + "".join(
        f"user{number:03}:x:{FIRST_UID + number}:65534::/:/bin/false\n" for number in range(500)
    )
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        raise PermissionError(ctypes.get_errno(), "unshare")
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(passwd)
        file.flush()
        Path(file.name).chmod(0o644)
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["mount", "--bind", file.name, "/etc/passwd"], check=True)
