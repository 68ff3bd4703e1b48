# SPDX-License-Identifier: MIT
"""What the stream of events costs where jobs are stored: PUT with EVENTS beside PUT without, in turn, on one input."""

from __future__ import annotations

import argparse
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import hiredis

from bench.store import PUT_BATCH, READ_BYTES, WRITE_JOBS, Client, cpu_s, running, used_memory
from slurmjcd import protocol

ROUNDS = 3
SPOOL = b"spool-00000000-0000-4000-8000-000000000000"  # as long as a daemon's, which is in each event


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=200_000, help="jobs in a round")
    parser.add_argument("--keep", type=int, default=100_000, help="events that stay")


def batches(jobs: int) -> list[bytes]:
    """The frames of the records, PUT_BATCH in one."""
    made = subprocess.run([str(WRITE_JOBS), str(jobs), "records"], capture_output=True, check=True).stdout
    records, at = [], 0
    while at < len(made):
        size = int.from_bytes(made[at : at + 4], "little")
        records.append(made[at + 4 : at + 4 + size])
        at += 4 + size
    return [protocol.join_frames(records[i : i + PUT_BATCH]) for i in range(0, len(records), PUT_BATCH)]


def commands(frames: list[bytes], jobs: int, keep: int) -> bytes:
    """What the shipper would send of them; `keep` 0: without events."""
    parts, seq, now_ms = [], 1, int(time.time() * 1000)
    for batch in frames:
        count = min(PUT_BATCH, jobs - seq + 1)
        head = [protocol.PUT, b"job", b"SPOOL", SPOOL, b"%d" % seq]
        head += [b"EVENTS", b"%d" % keep, b"%d" % (now_ms + seq)] if keep else []
        head.append(b"RECORDS")
        parts += [b"*%d\r\n" % (len(head) + count), protocol.join_frames(head), batch]
        seq += count
    return b"".join(parts)


def load(path: Path, data: bytes, replies: int) -> float:
    """Seconds of the server's processor time."""
    client = Client(path)
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    before, reader = cpu_s(client), hiredis.Reader()
    sender = threading.Thread(target=sock.sendall, args=(data,))
    sender.start()
    while replies:
        reader.feed(sock.recv(READ_BYTES))
        while (reply := reader.gets()) is not False:
            if not isinstance(reply, int):
                raise RuntimeError(f"PUT: {reply}")
            replies -= 1
    sender.join()
    sock.close()
    return cpu_s(client) - before


def measure(options: argparse.Namespace) -> dict[str, Any]:
    frames = batches(options.jobs)
    best: dict[str, float] = {}
    stored: dict[str, int] = {}
    for _ in options.machine.rounds(ROUNDS):
        for name, keep in (("without", 0), ("with", options.keep)):
            data = commands(frames, options.jobs, keep)
            with tempfile.TemporaryDirectory() as directory, running(Path(directory)) as server:
                client = Client(server.socket)
                before = used_memory(client)
                seconds = load(server.socket, data, len(frames))
                stored[name] = used_memory(client) - before
            best[name] = min(best.get(name, seconds), seconds)
    kept = min(options.jobs, options.keep)
    return {
        "jobs": options.jobs,
        "put_cpu_us": {name: seconds / options.jobs * 1e6 for name, seconds in best.items()},
        "event_cpu_us": (best["with"] - best["without"]) / options.jobs * 1e6,
        "event_bytes": (stored["with"] - stored["without"]) / kept,
    }
