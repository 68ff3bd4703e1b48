# SPDX-License-Identifier: MIT
"""What slurm.conf says, read as Slurm reads it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

_INCLUDE_DEPTH: Final = 5
_FILE_MAX_BYTES: Final = 16 * 1024 * 1024
_INCLUDE: Final = re.compile(r"\s*include\s+(\S+)", re.IGNORECASE)
# as in Slurm's parse_config.c: a line may hold several pairs, and blanks around the '='
_PAIR: Final = re.compile(r'\s*([\w.]+)\s*[-*+/]?=\s*(?:"([^"]*)"|(\S+))(?=\s|$)')
# Slurm looks for these anywhere in the value (read_config.c), so 'all' and 'job' count as well
_PRIVATE: Final = ("job", "all")


def private_jobs(slurm_conf: Path) -> bool:
    """Whether PrivateData of slurm.conf covers jobs. A file that can't be read means yes."""
    try:
        values = list(_values(slurm_conf, "privatedata"))
    except OSError as exc:
        log.warning("access: %s can't be read (%s): users see their own jobs only", slurm_conf, exc.strerror or exc)
        return True
    return bool(values) and any(word in values[-1].lower() for word in _PRIVATE)


def setting(slurm_conf: Path, key: str) -> str | None:
    """The value that counts (the last) of a setting, None when it is not set.

    Raises:
        OSError: the file, or one that it includes, can't be read.
    """
    values = list(_values(slurm_conf, key.lower()))
    return values[-1] if values else None


def _values(path: Path, key: str, depth: int = 0) -> Iterator[str]:
    with path.open("rb") as file:
        text = file.read(_FILE_MAX_BYTES).decode("utf-8", "surrogateescape").replace("\\\n", "")
    for line in text.splitlines():
        plain = line.split("#", 1)[0]
        include = _INCLUDE.match(plain)
        if include:
            if depth >= _INCLUDE_DEPTH:
                raise OSError(f"more than {_INCLUDE_DEPTH} files that include each other")
            if "\0" in include[1]:
                raise OSError("a NUL byte in the name of a file to include")
            yield from _values(path.parent / include[1], key, depth + 1)
            continue
        for pair in _PAIR.finditer(plain):
            if pair[1].lower() == key:
                yield pair[2] if pair[2] is not None else pair[3]
