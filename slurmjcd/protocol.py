# SPDX-License-Identifier: MIT
"""RESP on the daemon's sockets: bytes in, requests out; values in, reply bytes out. No I/O, no clock.

Requests are cut here and not by hiredis' reader: that one allocates an array as long as a header of 14 bytes claims,
before anything of it has come, and has no limit to set. Records are not cut into objects at all: the bytes of a
PUT's records go as they came (`$<length>\r\n<record>\r\n` each, called *frames* in this package) into the spool and
from there into Redis.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from slurmjcd.errors import ProtocolError

PROTOCOL_VERSION: Final = 1
RECORD_VERSION: Final = 1

PING: Final = b"PING"
HELLO: Final = b"SLURMJC.HELLO"
RING: Final = b"SLURMJC.RING"
PUT: Final = b"SLURMJC.PUT"
MATCH: Final = b"SLURMJC.MATCH"
FETCH: Final = b"SLURMJC.FETCH"
GET: Final = b"SLURMJC.GET"
AGG: Final = b"SLURMJC.AGG"
INFO: Final = b"SLURMJC.INFO"
STATUS: Final = b"SLURMJC.STATUS"
TAKE: Final = b"SLURMJC.TAKE"
TRIM: Final = b"SLURMJC.TRIM"
WATCH: Final = b"SLURMJC.WATCH"

RECORD_MAX_BYTES: Final = 1_048_576
ID_MAX_BYTES: Final = 64
_ID_BYTES: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-")

_PUT_HEAD: Final = 5  # SLURMJC.PUT SPOOL <source> <seq> RECORDS
_RECORD_LEAD_BYTE: Final = 0xDC  # the MessagePack array of a record
_HEADER_MAX: Final = 12  # digits of a length line and its end
_HEAD_BYTES: Final = 10  # of a frame with up to 4 digits of length: CR LF $ 9999 CR LF, first byte of the record
_HEAD: Final = re.compile(rb"\r\n\$([1-9]\d{0,3})\r\n\xdc", re.DOTALL)
_STEPS: Final[dict[bytes, int]] = {}  # head of a frame that was met before: bytes from it to the next head
_STEPS_MAX: Final = 10_000
_STEP_BYTES_MAX: Final = 9999
EMPTY_FRAME: Final = b"$0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may be. Sizes in bytes."""

    request_bytes: int = 4 * 1024 * 1024
    bulk_bytes: int = RECORD_MAX_BYTES
    arguments: int = 65_536


@dataclass(slots=True)
class Request:
    """One request. A PUT has its head in `args` and its records in `frames`, `count` of them.

    `bad_index` is the first record that is not a MessagePack array of a record's kind, -1 when all are.
    """

    args: list[bytes]
    frames: bytes = b""
    count: int = 0
    bad_index: int = -1

    @property
    def name(self) -> bytes:
        return self.args[0].upper()


class RequestParser:
    """Cuts a byte stream into requests, wherever the stream was cut. Broken input sets `error` and ends it."""

    def __init__(self, limits: Limits | None = None, *, takes_records: bool = False) -> None:
        self.error: ProtocolError | None = None
        self._limits = limits or Limits()
        self._takes_records = takes_records
        self._buf = bytearray()
        self._begin_request()

    def _begin_request(self) -> None:
        self._args: list[bytes] = []
        self._left = -1  # arguments still to come; -1: the array header itself
        self._pos = 0  # how far into the buffer the open request has been read
        self._frames_at = -1  # where a PUT's records start in the buffer
        self._count = 0
        self._bad_index = -1

    @property
    def buffered(self) -> int:
        """Bytes held of a request that has not come whole."""
        return len(self._buf)

    def feed(self, data: bytes) -> list[Request]:
        """Take bytes, return every request that is complete now."""
        requests: list[Request] = []
        if self.error is not None:
            return requests
        self._buf += data
        try:
            while (request := self._next()) is not None:
                requests.append(request)
        except ProtocolError as error:
            self.error = error
            self._buf.clear()
        return requests

    def _next(self) -> Request | None:
        if self._left < 0 and not self._read_header():
            return None
        while self._left and self._frames_at < 0:
            if not self._read_argument():
                self._check_size()
                return None
            if self._takes_records and len(self._args) == _PUT_HEAD and _is_put_head(self._args):
                self._frames_at = self._pos
        if self._frames_at >= 0 and not self._read_frames():
            self._check_size()
            return None
        frames = b""
        if self._frames_at >= 0:
            with memoryview(self._buf) as view:
                frames = bytes(view[self._frames_at : self._pos])
        request = Request(self._args, frames, self._count, self._bad_index)
        del self._buf[: self._pos]
        self._begin_request()
        return request

    def _check_size(self) -> None:
        """Raise ProtocolError when what came of an unfinished request is too much already."""
        if len(self._buf) > self._limits.request_bytes:
            raise ProtocolError(
                f"a request may have {self._limits.request_bytes} bytes, this one has more", code="TOOBIG"
            )

    def _read_header(self) -> bool:
        buf = self._buf
        if not buf:
            return False
        if buf[0] != 0x2A:
            raise ProtocolError("requests are RESP arrays of bulk strings, inline commands are not taken")
        size, end = self._length(0)
        if end < 0:
            return False
        if not 1 <= size <= self._limits.arguments:
            raise ProtocolError(f"a request has 1 to {self._limits.arguments} arguments, not {size}")
        self._left, self._pos = size, end
        return True

    def _length(self, at: int) -> tuple[int, int]:
        """The number in the header line at `at` and where the line ends; (0, -1) while it has not come whole."""
        buf = self._buf
        end = buf.find(b"\r\n", at + 1, at + 1 + _HEADER_MAX)
        if end < 0:
            if len(buf) - at > _HEADER_MAX:
                raise ProtocolError("a length line of more than 10 digits")
            return 0, -1
        digits = buf[at + 1 : end]
        if not digits.isdigit() or len(digits) > 10:
            raise ProtocolError("a length must be a decimal number of at most 10 digits")
        if digits[0] == 0x30 and len(digits) > 1:
            # Redis takes no such length, and records go there with the lengths that they came with
            raise ProtocolError("a length must not begin with 0")
        return int(digits), end + 2

    def _bulk_bounds(self) -> tuple[int, int]:
        """Where the bulk string at the cursor starts and ends, end -1 while it has not come whole."""
        buf, at = self._buf, self._pos
        if at >= len(buf):
            return 0, -1
        if buf[at] != 0x24:
            raise ProtocolError("each argument must be a bulk string")
        size, start = self._length(at)
        if start < 0:
            return 0, -1
        if size > self._limits.bulk_bytes:
            raise ProtocolError(
                f"an argument may have {self._limits.bulk_bytes} bytes, this one has {size}", code="TOOBIG"
            )
        end = start + size
        if end + 2 > self._limits.request_bytes:
            raise ProtocolError(
                f"a request may have {self._limits.request_bytes} bytes, this one has more", code="TOOBIG"
            )
        if len(buf) < end + 2:
            return start, -1
        if buf[end : end + 2] != b"\r\n":
            raise ProtocolError("a bulk string must end with CR LF")
        return start, end

    def _read_argument(self) -> bool:
        start, end = self._bulk_bounds()
        if end < 0:
            return False
        self._args.append(bytes(self._buf[start:end]))
        self._pos = end + 2
        self._left -= 1
        return True

    def _read_frames(self) -> bool:
        """Walk over the records: the usual ones fast, one by one those that are long, cut, wrong or broken."""
        ahead, base = b"", 0
        while True:
            if not ahead and self._knows_next():
                base = self._pos - 2
                with memoryview(self._buf) as view:
                    ahead = bytes(view[base : self._limits.request_bytes])
            if ahead:
                self._skip_known(ahead, base)
            if not self._left:
                return True
            at = self._pos
            start, end = self._bulk_bounds()
            if end < 0:
                return False
            if start < end and self._buf[start] == _RECORD_LEAD_BYTE:
                _learn(bytes(self._buf[at - 2 : at - 2 + _HEAD_BYTES]), end + 2 - at)
            elif self._bad_index < 0:
                self._bad_index = self._count
            self._pos = end + 2
            self._left -= 1
            self._count += 1

    def _knows_next(self) -> bool:
        """Whether a whole record follows whose head was met before; only then is what came worth a copy."""
        at = self._pos - 2
        step = _STEPS.get(bytes(self._buf[at : at + _HEAD_BYTES]))
        return step is not None and at + step + 2 <= len(self._buf) and self._limits.bulk_bytes >= _STEP_BYTES_MAX

    def _skip_known(self, ahead: bytes, base: int) -> None:
        """Skip whole records whose heads were met before; `ahead` is the buffer from `base` on.

        A head is the end of the frame before, the length line and the first byte of the record, so that one look at
        _STEPS checks all three and says where the next head is. This loop is the hot one of the daemon.
        """
        left, known = self._left, _STEPS.get
        pos = before = self._pos - 2 - base
        last = len(ahead) - 2  # where the end of a whole frame can be, at most
        while left and (step := known(ahead[pos : pos + _HEAD_BYTES])) is not None and pos + step <= last:
            before = pos
            pos += step
            left -= 1
        if ahead[pos : pos + 2] != b"\r\n" and pos > before:
            pos, left = before, left + 1  # the last one's end is wrong
        self._count += self._left - left
        self._left, self._pos = left, base + pos + 2


def _learn(head: bytes, step: int) -> None:
    if _HEAD.match(head) and len(_STEPS) < _STEPS_MAX:
        _STEPS[head] = step


def _is_put_head(args: Sequence[bytes]) -> bool:
    return args[0].upper() == PUT and args[1].upper() == b"SPOOL" and args[4].upper() == b"RECORDS"


def is_id(value: bytes) -> bool:
    """Whether this is a source or query id: 1 to 64 of [A-Za-z0-9_.:-]."""
    return 0 < len(value) <= ID_MAX_BYTES and _ID_BYTES.issuperset(value)


def split_frames(frames: bytes) -> list[bytes]:
    """The records in a run of frames."""
    return [frames[start:end] for start, end in frame_bounds(frames)]


def frame_bounds(frames: bytes) -> list[tuple[int, int]]:
    """Start and end of each record in a run of frames that a RequestParser has passed."""
    bounds = []
    pos, size = 0, len(frames)
    while pos < size:
        line = frames.index(b"\r\n", pos)
        start = line + 2
        end = start + int(frames[pos + 1 : line])
        bounds.append((start, end))
        pos = end + 2
    return bounds


def skip_frames(frames: bytes, number: int) -> bytes:
    """The frames without their first `number` records."""
    return frames[_end_of(frames, number) :]


def first_frames(frames: bytes, number: int) -> bytes:
    """The frames of the first `number` records."""
    return frames[: _end_of(frames, number)]


def _end_of(frames: bytes, number: int) -> int:
    pos = 0
    for _ in range(number):
        line = frames.index(b"\r\n", pos)
        pos = line + 4 + int(frames[pos + 1 : line])
    return pos


def join_frames(records: Iterable[bytes]) -> bytes:
    """The frames of these records."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(record), record) for record in records])


def command(*args: bytes | str | int) -> bytes:
    """A request as RESP."""
    parts = [b"*%d\r\n" % len(args)]
    parts.extend(bulk(arg if isinstance(arg, bytes) else str(arg).encode()) for arg in args)
    return b"".join(parts)


OK: Final = b"+OK\r\n"
PONG: Final = b"+PONG\r\n"
NIL: Final = b"$-1\r\n"
EMPTY_ARRAY: Final = b"*0\r\n"


def integer(value: int) -> bytes:
    return b":%d\r\n" % value


def bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def error(code: str, message: str) -> bytes:
    """An error reply; line ends and other control bytes in the message become spaces."""
    text = "".join(c if c.isprintable() else " " for c in f"{code} {message}")
    return b"-" + text.encode("utf-8", "replace")[:1000] + b"\r\n"


def reply(value: object) -> bytes:
    """A reply of bytes, str, int, None or a list of such, as RESP2."""
    match value:
        case None:
            return NIL
        case bool():
            return integer(int(value))
        case bytes():
            return bulk(value)
        case str():
            return bulk(value.encode("utf-8", "surrogateescape"))
        case int():
            return integer(value)
        case list() | tuple():
            return b"*%d\r\n" % len(value) + b"".join([reply(item) for item in value])
    raise TypeError(f"no RESP form for {type(value).__name__}")
