# SPDX-License-Identifier: MIT
"""uids and gids of names, as this host knows them: for sources that have only names."""

from __future__ import annotations

import functools
import grp
import pwd

from slurmjcd.importing.item import NoRecord


class Names:
    """Looks names up, each once. `unknown` is uid and gid of names that have none; None: their jobs are refused."""

    def __init__(self, unknown: int | None) -> None:
        self._unknown = unknown
        self.uid = functools.lru_cache(None)(self._uid)
        self.gid = functools.lru_cache(None)(self._gid)

    def _uid(self, name: str) -> int:
        """The uid of a user's name; a number stands for itself.

        Raises:
            NoRecord: this host knows no such user.
        """
        if name.isdigit():
            return int(name)
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            return self._instead(f"no user '{name}' on this host, so no uid for the job")

    def _gid(self, name: str) -> int:
        """The gid of a group's name, as `uid`."""
        if name.isdigit():
            return int(name)
        try:
            return grp.getgrnam(name).gr_gid
        except KeyError:
            return self._instead(f"no group '{name}' on this host, so no gid for the job")

    def _instead(self, why: str) -> int:
        if self._unknown is None:
            raise NoRecord(f"{why}: --unknown-id 65534 takes that number instead")
        return self._unknown
