# SPDX-License-Identifier: MIT
"""A Parquet file's footer with a digest in front of it. Parquet has checksums of pages only: a bit that flips in the
footer's statistics would leave out rows without a word. Readers of Parquet look at the end of a file and at where its
footer points to, so they don't see the digest.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

_TAG: Final = b"SJDIGEST"
_DIGEST: Final = 16
_SEAL: Final = len(_TAG) + _DIGEST
_END: Final = 8  # the footer's length in four bytes, PAR1
_FIRST_READ: Final = 64 * 1024  # holds most footers whole


class BrokenFooter(ValueError):
    """It isn't what was written."""


def seal(file: BinaryIO) -> None:
    """Put the digest in front of the footer of a file that was written; it is open for reading, too.

    Raises:
        OSError: it can't be done.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(size - _END)
    footer_size = int.from_bytes(file.read(4), "little") + _END
    file.seek(size - footer_size)
    footer = file.read(footer_size)
    file.seek(size - footer_size)
    file.write(_TAG + _digest(footer) + footer)


def read_footer(file: Any) -> tuple[Any, bool]:
    """The metadata of a file that pyarrow has open, and whether a digest vouches for it.

    Raises:
        OSError, ArrowException: it can't be read, or is no Parquet file.
        BrokenFooter: it has another digest.
    """
    tail = _tail(file, _FIRST_READ)
    wanted = int.from_bytes(tail[-_END:-4], "little") + _END + _SEAL
    if wanted > len(tail):
        tail = _tail(file, wanted)
    before, footer = tail[-wanted:][:_SEAL], tail[-wanted:][_SEAL:]
    is_sealed = before.startswith(_TAG)
    if is_sealed and before[len(_TAG) :] != _digest(footer):
        raise BrokenFooter("its footer is damaged")
    return pq.read_metadata(pa.BufferReader(tail)), is_sealed


def _tail(file: Any, most: int) -> bytes:
    size = file.size()
    return bytes(file.read_at(min(size, most), max(0, size - most)))


def _digest(footer: bytes) -> bytes:
    return hashlib.blake2b(footer, digest_size=_DIGEST).digest()
