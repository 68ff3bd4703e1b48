# SPDX-License-Identifier: MIT
"""A file to import: plain or packed, from disk or standard input, and the digest by which it is known again."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, cast

from slurmjcd.importing.item import WrongFormat

_OPENERS: Final[tuple[tuple[bytes, Any], ...]] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ", lzma.open),
)
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_CHUNK_BYTES: Final = 1 << 20
_HEAD_BYTES: Final = 64 * 1024
_DAMAGE: Final = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError)


class InputFile:
    """Reads a file as often as wanted. Standard input is copied to a file without name first.

    Attributes:
        digest: of its contents, unpacked.
        lines: how many there are.
        head: its first bytes, unpacked.
    """

    def __init__(self, path: str, stdin: BinaryIO | None = None) -> None:
        self.name = path
        self._copy: IO[bytes] | None = None
        if stdin is not None:
            self._copy = tempfile.TemporaryFile()  # noqa: SIM115  # it goes with the process
            shutil.copyfileobj(stdin, self._copy)
            self._copy.flush()
            self._path = Path(f"/proc/self/fd/{self._copy.fileno()}")
            self.name = "standard input"
        else:
            self._path = Path(path)
        self.digest, self.lines, self.head = self._look()

    def _look(self) -> tuple[str, int, bytes]:
        digest, lines, head, last = hashlib.sha256(), 0, b"", b"\n"
        with self.open() as file:
            while chunk := file.read(_CHUNK_BYTES):
                head = head or chunk[:_HEAD_BYTES]
                digest.update(chunk)
                lines += chunk.count(b"\n")
                last = chunk[-1:]
        return digest.hexdigest(), lines + (last != b"\n"), head

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """From the beginning.

        Raises:
            WrongFormat: it is packed, and damaged or in a way that can't be read here.
        """
        with self._path.open("rb") as file:
            magic = file.read(6)
        if magic.startswith(_ZSTD):
            raise WrongFormat(f"{self.name} is packed with zstd: zstd -dc {self.name} | slurmjc import -")
        opener = next((opener for start, opener in _OPENERS if magic.startswith(start)), open)
        try:
            with cast(BinaryIO, opener(self._path, "rb")) as unpacked:
                yield unpacked
        except _DAMAGE as exc:
            raise WrongFormat(f"{self.name} is packed and damaged: {exc}") from exc
