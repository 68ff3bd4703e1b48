# SPDX-License-Identifier: MIT
"""Unix sockets that the daemon makes itself, when systemd doesn't own them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from pathlib import Path
from typing import Final

from slurmjcd.errors import ConfigError

_BACKLOG: Final = 512


class OwnSocket:
    """A listening Unix socket and the lock that says whose it is."""

    def __init__(self, path: Path, mode: int, owner: int | None = None) -> None:
        """Bind and listen.

        Args:
            owner: uid the socket is given to, which only root can do; None for ourselves.

        Raises:
            ConfigError: the path can't be used; the text says what would be right.
        """
        self.path = path
        self._lock = self._take_lock(path)
        try:
            self._remove_stale(path)
            self.socket = self._bind(path, mode, owner)
        except BaseException:
            os.close(self._lock)
            raise

    @staticmethod
    def _take_lock(path: Path) -> int:
        lock_path = path.with_name(path.name + ".lock")
        try:
            lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as exc:
            raise ConfigError(f"socket {path}: its lock {lock_path} can't be opened: {exc.strerror}") from exc
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise ConfigError(
                f"socket {path}: another slurmjcd serves it: stop that one or set daemon.run_dir to another directory"
            ) from None
        return lock

    @staticmethod
    def _remove_stale(path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise ConfigError(f"socket {path}: there is something there that is no socket: move it away")
            path.unlink()

    @staticmethod
    def _bind(path: Path, mode: int, owner: int | None) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        old_umask = os.umask(0o777 & ~mode)  # so that the socket never has another mode than this
        try:
            sock.bind(str(path))
            if owner not in (None, os.geteuid()):
                os.chown(path, owner, -1, follow_symlinks=False)
            sock.listen(_BACKLOG)
        except OSError as exc:
            sock.close()
            raise ConfigError(f"socket {path} can't be made: {exc.strerror}") from exc
        finally:
            os.umask(old_umask)
        sock.setblocking(False)
        return sock

    def close(self) -> None:
        """Remove the socket and let the lock go (its file stays: removing it would let two daemons hold 'the' lock)."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        self.socket.close()
        os.close(self._lock)
