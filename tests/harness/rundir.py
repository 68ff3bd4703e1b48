# SPDX-License-Identifier: MIT
"""One temporary directory for all a run needs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

# A Unix socket's path has at most 107 bytes; this much has to be left for the part below the directory.
_BELOW: Final = 60
_SUN_PATH_MAX: Final = 107


@contextmanager
def run_dir(prefix: str = "sj-") -> Iterator[Path]:
    """A directory that everyone may enter (munge insists), gone afterwards; SLURMJCD_TEST_KEEP=1 keeps it."""
    base = tempfile.gettempdir()
    if len(base) + _BELOW > _SUN_PATH_MAX or not _everyone_may_enter(Path(base)):
        base = "/tmp"
    path = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
    path.chmod(0o755)
    _shm(path).mkdir(mode=0o755)
    try:
        yield path
    finally:
        if os.environ.get("SLURMJCD_TEST_KEEP"):
            print(f"kept {path}")
        else:
            shutil.rmtree(path, ignore_errors=True)
            shutil.rmtree(_shm(path), ignore_errors=True)


def ring_dir(directory: Path) -> Path:
    """Where the plugin of a cluster in that directory keeps its ring: on tmpfs, gone together with the run.

    For a run's own directory: the folder on tmpfs that holds all of them.
    """
    for run in [directory, *directory.parents]:
        if _shm(run).is_dir():
            return _shm(run) / ".".join(directory.relative_to(run).parts)
    raise ValueError(f"{directory} is not below a directory of run_dir()")


def _shm(run: Path) -> Path:
    return Path("/dev/shm") / run.name


def _everyone_may_enter(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in [path, *path.parents])
