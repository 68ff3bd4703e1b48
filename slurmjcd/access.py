# SPDX-License-Identifier: MIT
"""Who is asking (SO_PEERCRED), and what they may see: everything, or their own jobs."""

from __future__ import annotations

import asyncio
import grp
import logging
import os
import pwd
import re
import socket
import struct
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

log = logging.getLogger(__name__)

_CREDENTIALS: Final = struct.Struct("iII")
_GROUPS_KEPT_S: Final = 60.0
_GROUPS_TIMEOUT_S: Final = 5.0
_NOBODY: Final = 65534
_INCLUDE_DEPTH: Final = 5


class Peer(NamedTuple):
    """The process at the other end of a Unix socket when it connected."""

    uid: int
    pid: int
    gid: int


def peer_of(transport: asyncio.BaseTransport) -> Peer | None:
    """Who connected; None when the kernel doesn't say."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return None
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return None
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return Peer(uid, pid, gid) if uid != 2**32 - 1 else None


def private_jobs(slurm_conf: Path) -> bool:
    """Whether PrivateData of slurm.conf names jobs. A file that can't be read means yes."""
    try:
        values = list(_slurm_conf_values(slurm_conf, "privatedata"))
    except OSError as exc:
        log.warning("access: %s can't be read (%s): users see their own jobs only", slurm_conf, exc.strerror)
        return True
    return bool(values) and "jobs" in {word.strip().lower() for word in values[-1].split(",")}


def _slurm_conf_values(path: Path, key: str, depth: int = 0) -> Iterable[str]:
    text = path.read_text("utf-8", "surrogateescape").replace("\\\n", "")
    for line in text.splitlines():
        plain = line.split("#", 1)[0].strip()
        include = re.match(r"include\s+(\S+)", plain, re.IGNORECASE)
        if include and depth < _INCLUDE_DEPTH:
            yield from _slurm_conf_values(path.parent / include[1], key, depth + 1)
        name, equals, value = plain.partition("=")
        if equals and name.strip().lower() == key:
            yield value.strip().strip('"')


class AccessPolicy:
    """Says whether a uid sees all jobs. Replaced as a whole on reload."""

    def __init__(self, *, private: bool, operators: Iterable[str], operator_uids: Iterable[int]) -> None:
        self.private = private
        names = list(operators)
        self._groups = frozenset(name.removeprefix("%") for name in names if name.startswith("%"))
        users = [name for name in names if not name.startswith("%")]
        self._uids = frozenset(operator_uids) | frozenset(_uids_of(users))
        self._known: dict[int, tuple[float, bool]] = {}

    async def sees_all(self, uid: int) -> bool:
        """Whether this uid may see every user's jobs. In doubt it may not."""
        if not self.private or uid in self._uids:
            return True
        if not self._groups or uid == _NOBODY:
            return False
        now = time.monotonic()
        known = self._known.get(uid)
        if known is not None and now - known[0] < _GROUPS_KEPT_S:
            return known[1]
        try:
            async with asyncio.timeout(_GROUPS_TIMEOUT_S):
                answer = await asyncio.to_thread(_in_groups, uid, self._groups)
        except (TimeoutError, OSError) as exc:
            log.warning("access: groups of uid %d can't be looked up: %s", uid, exc or type(exc).__name__)
            return False
        if len(self._known) > 10_000:
            self._known.clear()
        self._known[uid] = (now, answer)
        return answer


def _uids_of(users: Iterable[str]) -> Iterable[int]:
    for user in users:
        if user.isdigit():
            yield int(user)
            continue
        try:
            yield pwd.getpwnam(user).pw_uid
        except KeyError:
            log.warning("access: operator '%s' is no user of this machine, left out", user)


def _in_groups(uid: int, groups: frozenset[str]) -> bool:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return False
    for gid in os.getgrouplist(entry.pw_name, entry.pw_gid):
        try:
            if grp.getgrgid(gid).gr_name in groups:
                return True
        except KeyError:
            continue
    return False
