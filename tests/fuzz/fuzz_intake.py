# SPDX-License-Identifier: MIT
"""Bytes at ingest.sock: the first byte says how they are cut. What is acknowledged is in the spool, once and in order.

Connection, committer and counters are the daemon's; the spool is one in memory, since its file has tests of its own.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final
from unittest import mock

import hiredis

from slurmjcd import protocol
from slurmjcd.access.policy import Peer
from slurmjcd.health.metrics import Metrics
from slurmjcd.ingest import server as ingest
from slurmjcd.ingest.committer import Committer
from slurmjcd.protocol import Limits
from slurmjcd.spool.batch import Intake, Ring
from slurmjcd.spool.spooldb import SpoolState
from tests.fuzz.inprocess import Complaints, Wire, pieces, replies

METRICS: Final = Metrics()
LOOP: Final = asyncio.new_event_loop()
LIMITS: Final = Limits(request_bytes=2000, bulk_bytes=500, arguments=40)
ROOT: Final = Peer(0, 1, 0)


class MemorySpool:
    """The spool's part in a commit."""

    max_bytes = 2**30

    def __init__(self) -> None:
        self.state = SpoolState()
        self.records: dict[str, list[bytes]] = {}

    async def append(self, intakes: list[Intake], rings: dict[str, Ring]) -> None:
        for intake in intakes:
            kept = self.records.setdefault(intake.source, [])
            kept += protocol.split_frames(intake.frames)
            self.state.watermarks[intake.source] = intake.last
            assert len(kept) == intake.last, "a hole, or a record twice"


def deliver(parts: list[bytes]) -> tuple[bytes, dict[str, list[bytes]]]:
    """What the daemon answers and keeps."""
    spool, wire = MemorySpool(), Wire()
    committer = Committer(spool, METRICS, batch_records=5, batch_bytes=4096, batch_ms=0)  # type: ignore[arg-type]
    server = ingest.IngestServer(
        committer, allowed_uids=frozenset({0}), limits=LIMITS, pending_bytes=2**30, connections=1
    )
    connection = server.connection()
    connection.connection_made(wire)
    for part in parts:
        if not wire.is_closing():
            connection.data_received(part)
    if not wire.is_closing():
        connection.eof_received()
    committer.close()
    LOOP.run_until_complete(committer.run())
    connection.connection_lost(None)
    assert wire.is_closing()
    assert not committer.pending_bytes
    jobs = METRICS.jobs
    while jobs._queue:
        frames, weight = jobs._pop()
        jobs._read(protocol.split_frames(frames), weight)
    return bytes(wire.out), spool.records


def one_input(data: bytes) -> None:
    seed, stream = data[0] if data else 0, data[1:]
    with Complaints() as complaints, mock.patch.object(ingest, "peer_of", return_value=ROOT):
        out, kept = deliver(pieces(stream, seed))
        assert deliver([stream]) == (out, kept)
    assert not complaints.lines, complaints.lines
    answers = replies(out)
    acknowledged = sum(answer for answer in answers if isinstance(answer, int))
    assert acknowledged == sum(len(records) for records in kept.values())
    codes = Counter(str(answer).split(" ")[0] for answer in answers if isinstance(answer, hiredis.ReplyError))
    assert "TRYAGAIN" not in codes
