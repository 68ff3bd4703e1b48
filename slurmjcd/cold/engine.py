# SPDX-License-Identifier: MIT
"""slurmjc_engine.so: what the module makes of criteria, asked of records in Arrow arrays.

See redis_module/library/library.h. One call at a time: the lock is the engine's, of the whole process.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterable
from ctypes import POINTER, c_bool, c_char_p, c_int64, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any, Final

import msgpack
import pyarrow as pa

from slurmjcd.errors import ConfigError, Refused, Unavailable

VERSION: Final = 1
SUM_MAX: Final = 2**63 - 1  # RESP's integers are signed
_NO_GROUPS: Final = c_size_t(-1).value
_LAST_DAY: Final = 2**63 - 1
_GROUPS_MAX: Final = 262_144

_SIGNATURES: Final[dict[str, tuple[Any, list[Any]]]] = {
    "jc_library_version": (c_uint32, []),
    "jc_runs_new": (c_void_p, []),
    "jc_runs_free": (None, [c_void_p]),
    "jc_runs_add": (c_int64, [c_void_p, c_void_p, c_void_p, c_uint32]),
    "jc_runs_beaten": (c_int64, [c_void_p, c_void_p, c_void_p, c_uint32, c_bool, POINTER(c_uint8)]),
    "jc_question_new": (c_void_p, []),
    "jc_question_free": (None, [c_void_p]),
    "jc_question_add": (c_char_p, [c_void_p, c_char_p, c_uint32, c_char_p, c_uint32]),
    "jc_question_done": (c_char_p, [c_void_p]),
    "jc_question_by": (c_bool, [c_void_p, c_char_p, c_char_p]),
    "jc_question_first_day": (c_int64, [c_void_p]),
    "jc_question_last_day": (c_int64, [c_void_p]),
    "jc_question_limit": (c_uint64, [c_void_p]),
    "jc_question_ask": (c_int64, [c_void_p, c_int64, c_void_p, c_void_p, c_uint32, POINTER(c_uint8)]),
    "jc_question_sums": (c_size_t, [c_void_p, c_char_p, c_size_t]),
}

_LOCK: Final = threading.Lock()

# one line of AGG: its keys, then jobs, node-, cpu-, wait- and run-seconds
Keys = tuple[bytes | None, ...]
Sums = list[int]


class Engine:
    """The library, loaded.

    Raises:
        ConfigError: it isn't there, or of another version.
    """

    def __init__(self, path: Path) -> None:
        try:
            self.lib = ctypes.CDLL(str(path))
            for name, (result, arguments) in _SIGNATURES.items():
                function = getattr(self.lib, name)
                function.restype, function.argtypes = result, arguments
        except (OSError, AttributeError) as exc:
            raise ConfigError(f"cold.engine: {path} can't be loaded ({exc}): install that of this version") from exc
        version = self.lib.jc_library_version()
        if version != VERSION:
            raise ConfigError(f"cold.engine: {path} is of version {version}, this slurmjcd needs {VERSION}")
        self.lock = _LOCK


def binary(records: Iterable[bytes]) -> Any:
    """Records as the array that the engine takes."""
    return pa.array(list(records), pa.large_binary())


def _places(records: Any) -> tuple[int, int, int]:
    """Addresses of the bytes and of the offsets of an array of type large_binary without nulls; its length."""
    assert records.type == pa.large_binary()
    assert records.null_count == 0
    _, offsets, data = records.buffers()
    return (data.address if data is not None else 0), offsets.address + 8 * records.offset, len(records)


def _broken(index: int) -> Unavailable:
    return Unavailable(f"record {index} of a row group is damaged, or not in its place")


class Runs:
    """The latest known end of each run that it was told of."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._self = engine.lib.jc_runs_new()
        self.records = 0

    def __del__(self) -> None:
        self._engine.lib.jc_runs_free(self._self)

    def add(self, records: Any) -> None:
        """Take note of an array of records.

        Raises:
            Unavailable: one is damaged.
        """
        if not len(records):
            return
        with self._engine.lock:
            bad = self._engine.lib.jc_runs_add(self._self, *_places(records))
        if bad >= 0:
            raise _broken(bad)
        self.records += len(records)

    def beaten(self, records: Any, *, ties: bool) -> bytearray:
        """A 1 for each record whose run was told of with a later end (with `ties` also with the same), else 0."""
        found = bytearray(len(records))
        if not self.records or not len(records):
            return found
        view = (c_uint8 * len(found)).from_buffer(found)
        with self._engine.lock:
            count = self._engine.lib.jc_runs_beaten(self._self, *_places(records), ties, view)
        del view
        if count < 0:
            raise _broken(-1 - count)
        return found


class Question:
    """Criteria, asked of one array of records after the other.

    Args:
        by: one or two fields to sum by; empty for none.

    Raises:
        Refused: the criteria make no sense; the text is the module's.
    """

    def __init__(self, engine: Engine, criteria: Iterable[tuple[bytes, bytes]], by: Iterable[bytes] = ()) -> None:
        self._engine = engine
        lib = engine.lib
        self._self = lib.jc_question_new()
        self._keys = list(by)
        with engine.lock:
            why = None
            for name, value in criteria:
                why = why or lib.jc_question_add(self._self, name, len(name), value, len(value))
            why = why or lib.jc_question_done(self._self)
            if self._keys and not lib.jc_question_by(self._self, self._keys[0], b"".join(self._keys[1:2])):
                raise Refused("no such field to sum by")
            if why:
                raise Refused(why.decode("utf-8", "replace"))
            self.first_day = int(lib.jc_question_first_day(self._self))
            last = int(lib.jc_question_last_day(self._self))
            self.last_day = last if last != _LAST_DAY else None
            self.limit = int(lib.jc_question_limit(self._self))

    def __del__(self) -> None:
        self._engine.lib.jc_question_free(self._self)

    def ask(self, day: int, records: Any, asked: bytearray) -> int:
        """How many of one day's records match; `asked` says which to look at, and then which match.

        Raises:
            Unavailable: one is damaged, or they are not in order of completion.
        """
        if not len(records):
            return 0
        view = (c_uint8 * len(asked)).from_buffer(asked)
        with self._engine.lock:
            count = self._engine.lib.jc_question_ask(self._self, day, *_places(records), view)
        del view
        if count < 0:
            raise _broken(-1 - count)
        return int(count)

    def sums(self) -> dict[Keys, Sums]:
        """What was summed so far.

        Raises:
            Refused: more groups than AGG has.
        """
        room = 1 << 16
        while True:
            out = ctypes.create_string_buffer(room)
            with self._engine.lock:
                size = self._engine.lib.jc_question_sums(self._self, out, room)
            if size == _NO_GROUPS:
                raise Refused(too_many_groups(), code="LIMIT")
            if size <= room:
                break
            room = size
        rows = msgpack.unpackb(out.raw[:size], raw=True, max_array_len=_GROUPS_MAX)
        keys = len(self._keys)
        return {
            tuple(row[:keys]): [row[2], row[3] << 64 | row[4], row[5] << 64 | row[6], row[7], row[8]] for row in rows
        }


def too_many_groups() -> str:
    """What AGG says of more groups than it has."""
    return f"more than {_GROUPS_MAX} groups, narrow the criteria"
