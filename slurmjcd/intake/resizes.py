# SPDX-License-Identifier: MIT
"""When jobs were resized: the document of a resize tells when the job began and when this part ended, not its begin.

The plugin keeps the same in StateSaveLocation (cplugin/resizes.h). Kept over restarts in a file; without it the second
part of a job would seem to have begun with the first.
"""

from __future__ import annotations

import json
import logging
import os
from collections import OrderedDict
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

_JOBS_KEPT: Final = 1000
_TIMES_KEPT: Final = 64  # of one job, the last ones

Key = tuple[str, int]  # cluster, job id


class Resizes:
    """Times of resizes in epoch seconds; the jobs that were resized last."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._times: OrderedDict[Key, list[int]] = OrderedDict()
        self._saved = True
        if path is not None:
            self._load(path)

    def part_begins(self, cluster: str, job_id: int, *, started: int, resized: int) -> int:
        """When the part began that a resize ended; takes note of that resize.

        Told of the same resize again it says the same: a document may come twice.
        """
        key = cluster, job_id
        times = self._times.setdefault(key, [])
        if resized not in times:
            times.append(resized)
            del times[:-_TIMES_KEPT]
            self._saved = False
            self._times.move_to_end(key)
            if len(self._times) > _JOBS_KEPT:
                self._times.popitem(last=False)
        # those before `started` are of an earlier run, or of another job with this id
        return max((at for at in times if started <= at < resized), default=started)

    def save(self) -> None:
        """Write the file if there is something new. A failure is only logged: the record is worth more than this."""
        if self._saved or self._path is None:
            return
        rows = [[cluster, job_id, times] for (cluster, job_id), times in self._times.items()]
        new = self._path.with_suffix(".new")
        try:
            with new.open("w") as file:
                json.dump(rows, file)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        except OSError as exc:
            log.warning("intake: %s can't be written: %s", self._path, exc.strerror)
            return
        self._saved = True

    def _load(self, path: Path) -> None:
        try:
            for cluster, job_id, times in json.loads(path.read_bytes()):
                self._times[str(cluster), int(job_id)] = [int(at) for at in times]
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError) as exc:
            log.warning("intake: %s can't be read, so parts of resized jobs may seem longer: %s", path, exc)
