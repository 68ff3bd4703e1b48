# SPDX-License-Identifier: MIT
"""A DUMP of a module's value taken apart and put together again, with a right check sum however wrong the rest is."""

from __future__ import annotations

import ctypes
import ctypes.util
from dataclasses import dataclass
from typing import Final

from tests.module.test_life import crc64

UINT: Final = 2
STRING: Final = 5
END: Final = 0

_zstd: Final = ctypes.CDLL(ctypes.util.find_library("zstd") or "libzstd.so.1")
_zstd.ZSTD_compress.restype = _zstd.ZSTD_decompress.restype = _zstd.ZSTD_compressBound.restype = ctypes.c_size_t
_zstd.ZSTD_compress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
_zstd.ZSTD_decompress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
_zstd.ZSTD_compressBound.argtypes = [ctypes.c_size_t]

Value = int | bytes


def pack(raw: bytes) -> bytes:
    """One zstd frame."""
    out = ctypes.create_string_buffer(_zstd.ZSTD_compressBound(len(raw)))
    n = _zstd.ZSTD_compress(out, len(out), raw, len(raw), 1)
    return out.raw[:n]


def unpack(packed: bytes, room: int = 1 << 22) -> bytes | None:
    """What a zstd frame holds; None when it is none, or larger than room."""
    out = ctypes.create_string_buffer(room)
    n = _zstd.ZSTD_decompress(out, room, packed, len(packed))
    return out.raw[:n] if n <= room else None


def _length(n: int) -> bytes:
    if n < 64:
        return bytes([n])
    if n < 1 << 14:
        return (0x4000 | n).to_bytes(2, "big")
    if n < 1 << 32:
        return b"\x80" + n.to_bytes(4, "big")
    return b"\x81" + n.to_bytes(8, "big")


def _take_length(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at` and where it ends."""
    kind = data[at] >> 6
    if kind == 0:
        return data[at], at + 1
    if kind == 1:
        return int.from_bytes(data[at : at + 2], "big") & 0x3FFF, at + 2
    size = {0x80: 4, 0x81: 8}[data[at]]
    return int.from_bytes(data[at + 1 : at + 1 + size], "big"), at + 1 + size


@dataclass
class Payload:
    """Type byte and module id; the values; what the server's version is."""

    head: bytes
    values: list[Value]
    version: bytes

    @classmethod
    def parse(cls, dump: bytes) -> Payload:
        """Of a server with rdbcompression off, so that strings lie there as they are."""
        _, at = _take_length(dump, 1)
        head = dump[:at]
        values: list[Value] = []
        while True:
            opcode, at = _take_length(dump, at)
            if opcode == END:
                break
            number, at = _take_length(dump, at)
            if opcode == UINT:
                values.append(number)
                continue
            assert opcode == STRING, f"a value of kind {opcode}"
            values.append(dump[at : at + number])
            at += number
        assert at == len(dump) - 10
        return cls(head, values, dump[-10:-8])

    def body(self) -> bytes:
        """Everything but the check sum."""
        out = bytearray(self.head)
        for value in self.values:
            if isinstance(value, int):
                out += _length(UINT) + _length(value)
            else:
                out += _length(STRING) + _length(len(value)) + value
        return bytes(out) + _length(END) + self.version


def seal(body: bytes) -> bytes:
    """What RESTORE takes."""
    return body + crc64(body)
