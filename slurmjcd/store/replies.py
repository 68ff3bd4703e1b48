# SPDX-License-Identifier: MIT
"""What a reply of Redis may be, looked at before it is read.

hiredis' reader makes an array as long as a header of 14 bytes claims, at once: `*2147483647` is 16 GiB and seconds in
which nothing else runs, and hiredis-py has no limit to set. So each header passes here first. Pages of FETCH don't
come this way, nobody reads them (see StoreLink.call_unread).
"""

from __future__ import annotations

import re
from asyncio import StreamReader
from typing import Final, cast

from hiredis import Reader
from redis._parsers.hiredis import _AsyncHiredisParser
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import InvalidResponse

ELEMENTS_MAX: Final = 4 * 1024 * 1024  # of one reply: AGG's largest has half as many
BYTES_MAX: Final = 64 * 1024 * 1024  # of one reply
PAGE_BYTES_MAX: Final = 80 * 1024 * 1024  # of a page that is passed on: the module ends it past 64 MiB and one job
_DEPTH_MAX: Final = 8
_LINE_MAX: Final = 64 * 1024
_DIGITS_MAX: Final = 19
_HEADS: Final = re.compile(rb"([*%~>|])(\d+)\r\n")  # of all that hiredis makes room for


class ReplyGuard:
    """Follows a stream of RESP2 replies, wherever it is cut. No I/O."""

    def __init__(self) -> None:
        self._skip = 0  # bytes of a bulk string still to come, its CR LF too
        self._line = b""  # beginning of a line whose end has not come
        self._open: list[int] = []  # of each array that is open: elements still to come, the outermost first
        self._elements = self._bytes = 0  # of the reply so far

    def check(self, data: bytes) -> None:
        """Look at the next bytes of the stream.

        Raises:
            InvalidResponse: no reply of ours is like that; the connection is of no use any more.
        """
        self._bytes += len(data)
        pos = 0
        while pos < len(data):
            if self._skip:
                step = min(self._skip, len(data) - pos)
                self._skip -= step
                pos += step
                if not self._skip:
                    self._ended(len(data) - pos)
                continue
            if self._line:  # only here is a line put together from two reads
                data, pos, self._line = self._line + data[pos:], 0, b""
            end = data.find(b"\r\n", pos)
            if end < 0:
                self._line = data[pos:]
                if len(self._line) > _LINE_MAX:
                    raise InvalidResponse(f"a line of a reply has more than {_LINE_MAX} bytes")
                break
            kind, text = data[pos : pos + 1], data[pos + 1 : end]
            pos = end + 2
            self._take_line(kind, text, len(data) - pos)
        if self._bytes > BYTES_MAX:
            raise InvalidResponse(f"a reply has more than {BYTES_MAX} bytes")

    def _take_line(self, kind: bytes, text: bytes, left: int) -> None:
        if kind in (b"+", b"-", b":"):
            self._ended(left)
        elif kind == b"$":
            size = _number(text)
            if size > BYTES_MAX:
                raise InvalidResponse(f"a reply may have {BYTES_MAX} bytes, a string in this one has {size}")
            if size < 0:
                self._ended(left)
            else:
                self._skip = size + 2
        elif kind == b"*":
            self._take_array(_number(text), left)
        else:
            raise InvalidResponse(f"a reply can't begin with {kind!r}")

    def _take_array(self, size: int, left: int) -> None:
        self._elements += max(0, size)
        if self._elements > ELEMENTS_MAX:
            raise InvalidResponse(f"a reply may have {ELEMENTS_MAX} elements, this one has {self._elements}")
        if size <= 0:
            self._ended(left)
            return
        self._open.append(size)
        if len(self._open) > _DEPTH_MAX:
            raise InvalidResponse(f"a reply has more than {_DEPTH_MAX} arrays in each other")

    def _ended(self, left: int) -> None:
        """A value is whole, and with it the arrays that it was the last one of; `left` bytes came behind it."""
        while self._open:
            self._open[-1] -= 1
            if self._open[-1]:
                return
            self._open.pop()
        self._elements, self._bytes = 0, left


def is_table(data: bytes) -> bool:
    """Whether a whole reply is an array of arrays of less than 100 values each, as AGG's is: then it needs no guard.

    Looks at what could be a header anywhere; what a string holds may make it say no.
    """
    heads = _HEADS.findall(data)
    return (
        len(data) <= BYTES_MAX
        and data.startswith(b"*")
        and bool(heads)
        and heads[0] == (b"*", b"%d" % (len(heads) - 1))
        and all(kind == b"*" and len(digits) < 3 for kind, digits in heads[1:])
    )


def _number(text: bytes) -> int:
    if not text.removeprefix(b"-").isdigit() or len(text) > _DIGITS_MAX:
        raise InvalidResponse(f"a length in a reply is no number: {text[:40]!r}")
    return int(text)


class GuardedParser(_AsyncHiredisParser):
    """redis-py's parser with a guard before hiredis' reader."""

    def on_connect(self, connection: object) -> None:
        super().on_connect(connection)  # type: ignore[no-untyped-call]
        self._guard = ReplyGuard()

    async def read_from_socket(self) -> bool:
        """Hand the reader what came, when it may see it."""
        stream, reader = cast(StreamReader, self._stream), cast(Reader, self._reader)
        data = await stream.read(self._read_size)
        if not data:
            raise ConnectionLost("closed by the server")
        self._guard.check(data)
        reader.feed(data)
        return True
