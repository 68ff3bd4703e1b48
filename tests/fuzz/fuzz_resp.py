# SPDX-License-Identifier: MIT
"""RESP as the daemon cuts it into requests and as hiredis reads it, which plugin and servers are at one with.

The first byte says which limits hold and whether records are taken, the second how the stream is cut; the stream
follows. Cut anywhere, the requests are the same; hiredis reads every one of them, as the same arguments; records are
kept in the form that Redis takes; and what we write ourselves is read back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import hiredis

from slurmjcd import protocol
from slurmjcd.protocol import Limits, Request, RequestParser
from slurmjcd.query.asking import LIMITS
from tests.fuzz.inprocess import pieces

SMALL: Final = Limits(request_bytes=300, bulk_bytes=120, arguments=12)


@dataclass
class Outcome:
    """What came of a stream; `agreed` requests end at byte `consumed`, before the piece that broke it."""

    requests: list[Request] = field(default_factory=list)
    error: str = ""
    agreed: int = 0
    consumed: int = 0


def parse(parts: list[bytes], limits: Limits, *, takes_records: bool) -> Outcome:
    parser, outcome, fed = RequestParser(limits, takes_records=takes_records), Outcome(), 0
    for part in parts:
        outcome.requests += parser.feed(part)
        fed += len(part)
        if parser.error is not None:
            outcome.error = f"{parser.error.code} {parser.error}"
            assert not parser.buffered
            break
        assert parser.buffered <= limits.request_bytes
        outcome.agreed, outcome.consumed = len(outcome.requests), fed - parser.buffered
    return outcome


def arguments(request: Request) -> list[bytes]:
    """All of a request's arguments; its records are in the form they came in, and that is the usual one."""
    records = protocol.split_frames(request.frames)
    assert len(records) == request.count
    assert protocol.join_frames(records) == request.frames
    assert request.bad_index == next((at for at, record in enumerate(records) if record[:1] != b"\xdc"), -1)
    return [*request.args, *records]


def one_input(data: bytes) -> None:
    flags, seed, stream = data[0] if data else 0, data[1] if len(data) > 1 else 0, data[2:]
    limits = (SMALL, LIMITS, Limits())[flags // 2 % 3]
    takes_records = bool(flags & 1)
    cut = parse(pieces(stream, seed), limits, takes_records=takes_records)
    whole = parse([stream], limits, takes_records=takes_records)
    assert (cut.requests, cut.error) == (whole.requests, whole.error)

    reader, read = hiredis.Reader(), []
    reader.feed(stream[: cut.consumed])
    while (value := reader.gets()) is not False:
        read.append(value)
    assert [arguments(request) for request in cut.requests][: cut.agreed] == read
    assert not reader.has_data()

    words = stream.split(b"\xff")
    again = parse(pieces(protocol.command(*words), seed), Limits(), takes_records=takes_records)
    assert not again.error
    assert [arguments(request) for request in again.requests] == [words]
