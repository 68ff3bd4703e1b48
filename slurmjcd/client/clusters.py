# SPDX-License-Identifier: MIT
"""Which cluster is meant, where several are stored: what -M says, as sacct reads it, and which one this host is of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from slurmjcd.slurm import slurmconf

_ALL: Final = frozenset({"all", "-1"})
_CONFS: Final = (Path("/etc/slurm/slurm.conf"), Path("/run/slurm/conf/slurm.conf"))  # the second: a configless host
_FEDERATED: Final = 1 << 26  # from here on an id has the number of its federation's cluster in it


def chosen(text: str | None) -> list[str]:
    """The names in a comma list; none where one of them means all."""
    words = [word.strip() for word in (text or "").split(",") if word.strip()]
    return [] if any(word.lower() in _ALL for word in words) else words


def own(job_ids: list[int]) -> str | None:
    """The cluster that commands of Slurm ask here, unless a job's siblings may be in others of its federation."""
    if any(job_id >= _FEDERATED for job_id in job_ids):
        return None
    said = os.environ.get("SLURM_CLUSTERS", "")
    if said:
        return said if "," not in said and said.lower() not in _ALL else None
    conf = os.environ.get("SLURM_CONF")
    for path in (Path(conf),) if conf else _CONFS:
        try:
            return slurmconf.setting(path, "ClusterName")
        except OSError:
            continue
    return None
