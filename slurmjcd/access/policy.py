# SPDX-License-Identifier: MIT
"""Who is asking (SO_PEERCRED), and what they may see: everything, some accounts, or their own jobs."""

from __future__ import annotations

import asyncio
import grp
import logging
import os
import pwd
import socket
import string
import struct
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from slurmjcd import criteria
from slurmjcd.access.lookups import Lookups

log = logging.getLogger(__name__)

_CREDENTIALS: Final = struct.Struct("iII")
_GROUPS_KEPT_S: Final = 60.0
_FAILURE_KEPT_S: Final = 5.0
_KNOWN_MAX: Final = 10_000
_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_NOBODY: Final = 65534  # also whoever the kernel can't name in this user namespace


class Peer(NamedTuple):
    """The process at the other end of a Unix socket when it connected."""

    uid: int
    pid: int
    gid: int


def credentials(sock: socket.socket) -> Peer | None:
    """Who connected to a Unix socket; None when the kernel doesn't say."""
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return None
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return Peer(uid, pid, gid) if uid != 2**32 - 1 else None


def peer_of(transport: asyncio.BaseTransport) -> Peer | None:
    """Who connected; None when the kernel doesn't say."""
    sock = transport.get_extra_info("socket")
    return credentials(sock) if sock is not None else None


def lower(account: str) -> str:
    """An account's name in lower case, as the module has it: letters of ASCII only."""
    return account.translate(_LOWER)


@dataclass(frozen=True, slots=True)
class View:
    """What one user may see: all jobs, or their own and those of `accounts` (in lower case)."""

    uid: int
    all: bool = False
    accounts: frozenset[str] = frozenset()

    def covers(self, other: View) -> bool:
        """Whether everything that `other` may see may be seen with this view too."""
        return self.all or (self.uid == other.uid and not other.all and self.accounts >= other.accounts)

    def allows(self, uid: int, account: str) -> bool:
        """Whether a job of that user and account may be seen."""
        return self.all or uid == self.uid or bool(account and lower(account) in self.accounts)

    def __str__(self) -> str:
        return "all" if self.all else "accounts" if self.accounts else "own"


def restricted(asked: criteria.Criteria, view: View) -> criteria.Criteria | None:
    """The question as this caller may ask it, None when there is nothing it may see."""
    if view.all:
        return asked
    if view.accounts:
        return criteria.only_accounts(asked, view.uid, view.accounts)
    return criteria.only_uid(asked, view.uid)


class AccessPolicy:
    """Says what a uid may see. Replaced as a whole on reload.

    Making one may look up users, which may take long: make it in a thread.

    Args:
        operators: who sees all: user names, uids, groups as '%group'.
        coordinators: account → who sees all jobs of it, in the same form.
        operator_uids: further uids that see all.
    """

    def __init__(
        self,
        *,
        private: bool,
        operators: Iterable[str],
        operator_uids: Iterable[int],
        coordinators: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        self.private = private
        self._lookups = Lookups()
        self._uids, self._groups = _uids_and_groups("operator", operators)
        self._uids |= frozenset(operator_uids)
        self._coordinators = {
            lower(account): _uids_and_groups("coordinator", who) for account, who in (coordinators or {}).items()
        }
        self._asked_groups = self._groups.union(*(groups for _, groups in self._coordinators.values()))
        self._known: dict[int, tuple[float, frozenset[str]]] = {}  # uid → until when, groups of ours it is in
        self._asking: dict[int, asyncio.Task[frozenset[str]]] = {}

    async def view(self, uid: int) -> View:
        """What this uid may see. In doubt it sees less."""
        if not self.private or uid in self._uids:
            return View(uid, all=True)
        groups = await self._groups_of(uid)
        if groups & self._groups:
            return View(uid, all=True)
        accounts = frozenset(
            account for account, (uids, names) in self._coordinators.items() if uid in uids or groups & names
        )
        return View(uid, accounts=accounts)

    async def operates(self, uid: int) -> bool:
        """Whether this uid is an operator, whoever may see what. In doubt it is none."""
        return uid in self._uids or bool(self._groups and await self._groups_of(uid) & self._groups)

    async def sees_all(self, uid: int) -> bool:
        """Whether this uid may see every user's jobs. In doubt it may not."""
        return (await self.view(uid)).all

    async def _groups_of(self, uid: int) -> frozenset[str]:
        """Those groups of the configuration that this uid is in; none when they can't be looked up."""
        if not self._asked_groups or uid == _NOBODY:
            return frozenset()
        known = self._known.get(uid)
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        task = self._asking.get(uid)
        if task is None:  # a user's connections ask once
            task = asyncio.get_running_loop().create_task(self._ask(uid))
            self._asking[uid] = task
            task.add_done_callback(lambda _: self._asking.pop(uid, None))
        return await asyncio.shield(task)

    async def _ask(self, uid: int) -> frozenset[str]:
        groups, kept_s = frozenset[str](), _GROUPS_KEPT_S
        try:
            groups = await self._lookups.run(_groups_in, uid, self._asked_groups)
        except (TimeoutError, OSError) as exc:
            log.warning("access: groups of uid %d can't be looked up: %s", uid, exc or "no answer in time")
            kept_s = _FAILURE_KEPT_S
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        self._known[uid] = (time.monotonic() + kept_s, groups)
        return groups


def _uids_and_groups(role: str, names: Iterable[str]) -> tuple[frozenset[int], frozenset[str]]:
    uids, groups = set(), set()
    for name in names:
        if name.startswith("%"):
            groups.add(name.removeprefix("%"))
        elif name.isdigit():
            uids.add(int(name))
        else:
            try:
                uids.add(pwd.getpwnam(name).pw_uid)
            except KeyError:
                log.warning("access: %s '%s' is no user of this machine, left out", role, name)
    return frozenset(uids), frozenset(groups)


def _groups_in(uid: int, wanted: frozenset[str]) -> frozenset[str]:
    """Which of the groups that user is in, supplementary ones included."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return frozenset()
    found = set()
    for gid in os.getgrouplist(entry.pw_name, entry.pw_gid):
        try:
            found.add(grp.getgrgid(gid).gr_name)
        except KeyError:
            continue
    return wanted & found
