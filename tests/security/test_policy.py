# SPDX-License-Identifier: MIT
"""Under private data no bytes that a user sends get them a row, a name or a count of anybody else's."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import hiredis
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from slurmjcd import criteria, protocol, record
from slurmjcd.access.policy import AccessPolicy, Peer
from slurmjcd.config.settings import QuerySection
from slurmjcd.health.metrics import Metrics
from slurmjcd.query.server import query_server
from slurmjcd.store.store import Store
from tests.harness import RedisServer
from tests.slurmjcd import sharded
from tests.slurmjcd.jobs import NOON, job

UIDS: Final = (1000, 1001, 1002)
JOBS: Final = 30
ME: Final = 1000
COORDINATOR: Final = 1002  # of the account of 1001
MATCHED: Final = re.compile(rb"[a-z0-9]+:mat:")


def marked(number: int) -> bytes:
    """A job whose every string tells whose it is."""
    uid = UIDS[number % len(UIDS)]
    mark = f"of-{uid}-"
    strings = ("user", "group", "name", "partition", "qos", "wckey", "reservation", "work_dir", "features")
    return job(
        number, uid=uid, gid=uid, end=NOON + number, account=f"account-{mark}", nodes=f"n{uid}",
        **{name: f"{name}-{mark}" for name in strings}, extra={"comment": f"comment-{mark}", "uid": "1000"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def redis(session_rundir: Path) -> Iterator[RedisServer]:
    server = RedisServer(session_rundir / "policy")
    server.start()
    for shards in (1, 3):
        sharded.put(server, [marked(number) for number in range(1, JOBS + 1)], shards=shards)
    yield server
    server.stop()


# ---- anything a user might send --------------------------------------------------------------------------------------

WORDS = st.one_of(
    st.sampled_from([name.decode() for name in criteria.NAMES]),
    st.sampled_from(["viewer", "viewer_account", "RECORDS", "BY", "recordS", "UID", "q", "r", "job:mat:q", "job"]),
    st.sampled_from(["1000", "1001", "1002", "0", "1000,1001", "1-30", "4", "5", "0-4294967295", "-1", "", "*", "%"]),
    st.sampled_from(["account-of-1001-", "ACCOUNT-of-1001-", "user-of-1001-", "n[1000-1002]", "3", "\0", "\r\n"]),
    st.text(max_size=5),
)
COMMANDS = st.sampled_from([
    "SLURMJC.MATCH", "SLURMJC.FETCH", "SLURMJC.GET", "SLURMJC.AGG", "SLURMJC.INFO", "slurmjc.match", "PING",
    "SLURMJC.HELLO", "SLURMJC.PUT", "SLURMJC.INDEX", "KEYS", "SLURMJC.TAKE", "SLURMJC.TRIM",
])  # fmt: skip
USEFUL = st.one_of(
    st.tuples(st.just("SLURMJC.MATCH"), st.sampled_from(["q", "r"])),
    st.tuples(st.just("SLURMJC.MATCH"), st.just("q"), st.sampled_from(["uid", "viewer", "user", "job", "gid"]), WORDS),
    st.tuples(st.just("SLURMJC.MATCH"), st.just("q"), st.just("uid"), WORDS, st.just("uid"), WORDS),
    st.tuples(st.just("SLURMJC.FETCH"), st.sampled_from(["q", "r"]), st.sampled_from(["1", "100"])),
    st.tuples(st.just("SLURMJC.FETCH"), st.sampled_from(["q", "r"]), st.just("100"), st.just("RECORDS")),
    st.tuples(st.just("SLURMJC.GET"), st.integers(0, JOBS + 1).map(str)),
    st.tuples(st.just("SLURMJC.AGG"), st.just("BY"), st.sampled_from(["user", "account", "name", "day", "state"])),
    st.tuples(st.just("SLURMJC.AGG"), st.just("BY"), st.just("user"), st.sampled_from(["account", "uid"]), WORDS),
)
ANYTHING = st.tuples(COMMANDS, st.lists(WORDS, max_size=6)).map(lambda pair: (pair[0], *pair[1]))
SESSION = st.lists(st.one_of(USEFUL, USEFUL, ANYTHING), min_size=1, max_size=12)
SHARDS = st.sampled_from([1, 3])
BROKEN = st.tuples(SESSION, st.integers(0, 400), st.binary(max_size=8))


def request_bytes(words: tuple[str, ...]) -> bytes:
    return protocol.command(*[word.encode("utf-8", "surrogatepass") for word in words])


# ---- what came back --------------------------------------------------------------------------------------------------


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for part in value:
            yield from leaves(part)
    else:
        yield value


def uids_in(reply: Any) -> set[int]:
    """Whose rows a reply has: by the marks in its strings, and by the uid of each record that can be decoded.

    MATCH's reply is what the caller called the query, not a row.
    """
    if isinstance(reply, bytes) and MATCHED.match(reply):
        return set()
    found: set[int] = set()
    for value in leaves(reply):
        if not isinstance(value, bytes):
            continue
        found |= {uid for uid in UIDS if b"of-%d-" % uid in value}
        if value[:1] == b"\xdc":
            found.add(int(record.decode(value)["uid"]))
    return found


def counted(reply: Any) -> int:
    """Jobs that the rows of an answer to AGG count."""
    return sum(row[-5] for row in reply) if isinstance(reply, list) else 0


async def session(redis: RedisServer, path: Path, uid: int, data: bytes, shards: int) -> list[Any]:
    """What one connection of that user gets for these bytes."""
    config = sharded.config(redis, shards, QuerySection(request_s=0.2, idle_s=0.2))
    policy = AccessPolicy(
        private=True, operators=[], operator_uids=[0], coordinators={"Account-of-1001-": [str(COORDINATOR)]}
    )
    server = query_server(Store(config), config.query, Metrics(), policy)
    listener = await asyncio.get_running_loop().create_unix_server(server.connection, path)
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(protocol.command("SLURMJC.HELLO", 1, "policy/1") + data)
    writer.write_eof()
    parser, replies = hiredis.Reader(), []
    try:
        async with asyncio.timeout(30):
            while came := await reader.read(65536):
                parser.feed(came)
                while (reply := parser.gets()) is not False:
                    replies.append(reply)
    except ConnectionError:
        pass
    finally:
        writer.close()
        listener.close()
        await server.close()
        await server.store.close()
    return replies


def run(redis: RedisServer, uid: int, data: bytes, shards: int) -> list[Any]:
    path = redis.directory / "policy.sock"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slurmjcd.query.asking.peer_of", lambda transport: Peer(uid, 1, uid))
        try:
            return asyncio.run(session(redis, path, uid, data, shards))
        finally:
            path.unlink(missing_ok=True)


EXAMPLES = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@EXAMPLES
@given(words=SESSION, shards=SHARDS)
def test_every_row_is_the_callers_own(redis: RedisServer, words: list[tuple[str, ...]], shards: int) -> None:
    asked = b"".join(request_bytes(request) for request in words)
    replies = run(redis, ME, asked, shards)
    for request, reply in zip([("HELLO",), *words], replies, strict=False):
        if isinstance(reply, hiredis.ReplyError):
            continue
        assert uids_in(reply) <= {ME}, (request, reply)
        if request[0].upper() == "SLURMJC.AGG":
            assert counted(reply) <= JOBS // len(UIDS)
        if request[0].upper() == "SLURMJC.INFO":
            assert b"jobs" not in reply


@EXAMPLES
@given(words=SESSION, shards=SHARDS)
def test_a_coordinator_sees_their_own_and_those_of_their_accounts(
    redis: RedisServer, words: list[tuple[str, ...]], shards: int
) -> None:
    replies = run(redis, COORDINATOR, b"".join(request_bytes(request) for request in words), shards)
    for request, reply in zip([("HELLO",), *words], replies, strict=False):
        if not isinstance(reply, hiredis.ReplyError):
            assert uids_in(reply) <= {COORDINATOR, 1001}, (request, reply)


@EXAMPLES
@given(broken=BROKEN, shards=SHARDS)
def test_bytes_that_are_no_requests_get_nothing_either(
    redis: RedisServer, broken: tuple[list[tuple[str, ...]], int, bytes], shards: int
) -> None:
    words, at, inserted = broken
    data = b"".join(request_bytes(request) for request in words)
    replies = run(redis, ME, data[:at] + inserted + data[at:], shards)
    for reply in replies:
        if not isinstance(reply, hiredis.ReplyError):
            assert uids_in(reply) <= {ME}, (words, at, inserted, reply)


@pytest.mark.parametrize("shards", [1, 3])
def test_the_sessions_above_do_get_rows(redis: RedisServer, shards: int) -> None:
    """Otherwise they would prove nothing."""
    words = [("SLURMJC.MATCH", "q"), ("SLURMJC.FETCH", "q", "100", "RECORDS"), ("SLURMJC.AGG", "BY", "user")]
    for uid, expected in ((ME, {ME}), (COORDINATOR, {COORDINATOR, 1001}), (0, set(UIDS))):
        replies = run(redis, uid, b"".join(request_bytes(request) for request in words), shards)
        assert uids_in(replies[2]) == expected
        assert uids_in(replies[3]) == expected
        assert len(replies[2]) == JOBS // len(UIDS) * len(expected)


@pytest.mark.parametrize("shards", [1, 3])
def test_coordinators_get_what_get_shows(redis: RedisServer, shards: int) -> None:
    for number, expected in ((1, True), (2, True), (3, False)):
        (_, reply) = run(redis, COORDINATOR, request_bytes(("SLURMJC.GET", str(number))), shards)
        assert bool(reply) is expected, number
