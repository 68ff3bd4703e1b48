# SPDX-License-Identifier: MIT
"""Where things are that a build made."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
CMAKE_BUILD: Final = Path(os.environ.get("SLURMJCD_BUILD", ROOT / "build" / "cmake"))
MODULE: Final = CMAKE_BUILD / "redis_module" / "slurm_jobcomp.so"
ENGINE: Final = CMAKE_BUILD / "redis_module" / "slurmjc_engine.so"
PLUGIN: Final = CMAKE_BUILD / "cplugin" / "jobcomp_redis.so"


def program(name: str) -> str:
    """A command of our own Python environment, such as slurmjcd, by its path."""
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run `make setup`")
    return str(path)
