# SPDX-License-Identifier: MIT
"""A connection to query.sock, blocking, with a time limit on every step."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any, Final

import hiredis

from slurmjcd import __version__
from slurmjcd.client.failure import UNREACHABLE, Failure, from_reply

DEFAULT_SOCKET: Final = "/run/slurmjcd/query.sock"
_PAGE_ROWS: Final = 2000
_READ_BYTES: Final = 256 * 1024
_ID: Final = b"q"


def _timeval(seconds: float) -> bytes:
    return struct.pack("@ll", int(seconds), int(seconds % 1 * 1_000_000) or 1)


class Connection:
    """Speaks to the daemon. `hello` holds what it said about itself."""

    def __init__(self, path: str, timeout_s: float) -> None:
        self._path, self._timeout_s = path, timeout_s
        self._reader = hiredis.Reader()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # with settimeout() a full backlog would be an error at once: the kernel has a queue for who waits
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(timeout_s))
            self._socket.connect(path)
            self._socket.settimeout(timeout_s)
        except OSError as exc:
            self._socket.close()
            why = exc.strerror or "no answer in time"
            raise Failure(f"slurmjcd can't be reached at {path}: {why}", UNREACHABLE) from exc
        flat = self.call(b"SLURMJC.HELLO", b"1", f"slurmjc/{__version__}".encode())
        self.hello: dict[str, Any] = {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def call(self, *args: bytes) -> Any:
        """Send a command, return its reply.

        Raises:
            Failure: the daemon refuses, or is gone.
        """
        self.ask(*args)
        return self.answer()

    def ask(self, *args: bytes) -> None:
        """Send a command; `answer` has its reply."""
        parts = [b"*%d\r\n" % len(args)]
        parts.extend(b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args)
        self._send(b"".join(parts))

    def fileno(self) -> int:
        """For poll(): readable when an answer begins to come."""
        return self._socket.fileno()

    def _send(self, data: bytes) -> None:
        try:
            # a daemon that went away is an error to tell, not a pipe that nobody reads
            self._socket.sendall(data, socket.MSG_NOSIGNAL)
        except OSError as exc:
            # it may have said why before it closed
            self.answer()
            raise Failure(f"slurmjcd at {self._path} closed the connection", UNREACHABLE) from exc

    def answer(self) -> Any:
        """The reply to the command sent first; each wait for bytes of it has the time limit."""
        while (reply := self._reader.gets()) is False:
            try:
                data = self._socket.recv(_READ_BYTES)
            except TimeoutError as exc:
                why = f"slurmjcd at {self._path} gave no answer within {self._timeout_s:g} s"
                raise Failure(why, UNREACHABLE) from exc
            except OSError as exc:
                raise Failure(f"connection to slurmjcd at {self._path} lost: {exc.strerror}", UNREACHABLE) from exc
            if not data:
                raise Failure(f"slurmjcd at {self._path} closed the connection", UNREACHABLE)
            self._reader.feed(data)
        if isinstance(reply, hiredis.ReplyError):
            raise from_reply(str(reply))
        return reply

    def records(self, criteria: list[tuple[str, str]]) -> Iterator[bytes]:
        """The records that match, in order of completion, page by page."""
        words = [word.encode("utf-8", "surrogateescape") for pair in criteria for word in pair]
        if self.call(b"SLURMJC.MATCH", _ID, *words) is None:
            return
        while page := self.call(b"SLURMJC.FETCH", _ID, b"%d" % _PAGE_ROWS, b"RECORDS"):
            yield from page
