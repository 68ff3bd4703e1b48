# SPDX-License-Identifier: MIT
"""A well-behaved sender on ingest.sock: python -m tests.security.probe SOCKET SOURCE, until its stdin ends.

Every few milliseconds one record is put and its acknowledgement waited for, and then a PING, which the daemon answers
from its event loop without looking at anything else: that round trip is the loop's lag and what it takes to be told.
Prints {"ack_s": [...], "lag_s": [...]}.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from typing import Final

from slurmjcd import protocol
from tests.slurmjcd.jobs import NOON, job

_EVERY_S: Final = 0.005
_FIRST_JOB: Final = 1_000_000
_TIMEOUT_S: Final = 60.0


def main(path: str, source: bytes) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(_TIMEOUT_S)
    sock.connect(path)

    def timed(request: bytes, expected: bytes) -> float:
        started = time.perf_counter()
        sock.sendall(request)
        answer = sock.recv(65536)
        if not answer.startswith(expected):
            raise RuntimeError(f"{answer!r} instead of {expected!r}")
        return time.perf_counter() - started

    timed(protocol.command(protocol.HELLO, b"1", b"probe/1"), b"*")
    ack_s: list[float] = []
    lag_s: list[float] = []
    print("probing", flush=True)
    while not select.select([sys.stdin], [], [], _EVERY_S)[0]:
        number = len(ack_s) + 1
        record = job(_FIRST_JOB + number, end=NOON + number)
        request = protocol.command(protocol.PUT, b"SPOOL", source, number, b"RECORDS", record)
        ack_s.append(timed(request, b":1\r\n"))
        lag_s.append(timed(protocol.command(protocol.PING), protocol.PONG))
    print(json.dumps({"ack_s": ack_s, "lag_s": lag_s}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2].encode())
