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
    ring_dir(path).mkdir(mode=0o755)
    try:
        yield path
    finally:
        if os.environ.get("SLURMJCD_TEST_KEEP"):
            print(f"kept {path}")
        else:
            shutil.rmtree(path, ignore_errors=True)
            shutil.rmtree(ring_dir(path), ignore_errors=True)


def ring_dir(directory: Path) -> Path:
    """Where a cluster in that directory keeps the plugin's rings: on tmpfs, and gone together with the directory."""
    return Path("/dev/shm") / directory.name


def _everyone_may_enter(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in [path, *path.parents])
