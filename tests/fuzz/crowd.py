# SPDX-License-Identifier: MIT
"""Made-up jobs and what the module's own code says which criteria want them; `make plugin` builds it (probe.c)."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
LIBRARY: Final = Path(os.environ.get("SLURMJCD_BUILD", ROOT / "build" / "cmake")) / "tests" / "criteria_probe.so"
_WHY_BYTES: Final = 320


@dataclass(frozen=True)
class Job:
    """What the access policy looks at."""

    job_id: int
    uid: int
    account: str


class Crowd:
    """The jobs, numbered from 0."""

    def __init__(self) -> None:
        self._lib = ctypes.CDLL(str(LIBRARY))
        self._lib.probe_account.restype = ctypes.c_void_p
        self._lib.probe_uid.restype = self._lib.probe_id.restype = ctypes.c_uint32
        self._lib.probe_ask.restype = ctypes.c_bool
        self._lib.probe_ask.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_char_p)
        self._lib.probe_make()
        self.jobs = [self._job(number) for number in range(self._lib.probe_jobs())]

    def _job(self, number: int) -> Job:
        size = ctypes.c_uint32()
        account = self._lib.probe_account(number, ctypes.byref(size))
        text = ctypes.string_at(account, size.value) if account else b""
        return Job(self._lib.probe_id(number), self._lib.probe_uid(number), text.decode("utf-8", "surrogateescape"))

    def ask(self, criteria: Iterable[tuple[bytes, bytes]]) -> frozenset[int] | str:
        """Which jobs these criteria want; why they make no sense, when they don't."""
        texts = [text for pair in criteria for text in pair]
        flat = b"".join([len(text).to_bytes(4, "big") + text for text in texts])
        which = ctypes.create_string_buffer(len(self.jobs))
        why = ctypes.create_string_buffer(_WHY_BYTES)
        if not self._lib.probe_ask(flat, len(flat), which, why):
            return why.value.decode("utf-8", "replace") or "no reason given"
        return frozenset(number for number, wanted in enumerate(which.raw) if wanted)


@functools.cache
def crowd() -> Crowd:
    """The one there is."""
    return Crowd()
