# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import uvloop
from redis import exceptions
from redis.asyncio.connection import UnixDomainSocketConnection

from slurmjcd import protocol
from slurmjcd.config.settings import Config, RedisSection
from slurmjcd.errors import BadRecord, OutOfSequence, Refused, Unavailable
from slurmjcd.store import store, storeinfo, storelink
from slurmjcd.store.shards import shard_prefixes
from slurmjcd.store.storelink import StoreLink
from tests.harness import RedisServer


def translated(text: str, kind: type[Exception] = exceptions.ResponseError) -> Any:
    return storelink.translate(kind(text), "unix:/r", has_module=True)


def test_errors_about_records_say_which() -> None:
    error = translated("OUTOFSEQ 17")
    assert isinstance(error, OutOfSequence)
    assert error.expected == 17
    error = translated("BADRECORD 3 end is 0")
    assert isinstance(error, BadRecord)
    assert (error.index, error.why) == (3, "end is 0")


@pytest.mark.parametrize("text", ["NOQUERY no query 'x' is open", "LIMIT rows", "ERR unknown criterion 'x'"])
def test_errors_about_the_request_go_back_with_their_code(text: str) -> None:
    error = translated(text)
    assert isinstance(error, Refused)
    assert f"{error.code} {error}" == text


def test_an_error_whose_code_the_client_took_off_is_about_the_request() -> None:
    error = translated("a job id is a number")
    assert (type(error), error.code, str(error)) == (Refused, "ERR", "a job id is a number")


@pytest.mark.parametrize(
    ("text", "kind", "shown"),
    [
        ("command not allowed when used memory > 'maxmemory'.", exceptions.OutOfMemoryError, "OOM command not"),
        ("Redis is loading the dataset in memory", exceptions.BusyLoadingError, "LOADING Redis is loading"),
        ("You can't write against a read only replica.", exceptions.ReadOnlyError, "READONLY You can't"),
        ("Authentication required.", exceptions.AuthenticationError, "NOAUTH Authentication"),
        ("this user has no permissions", exceptions.NoPermissionError, "NOPERM this user"),
        ("MISCONF Redis is configured to save RDB snapshots", exceptions.ResponseError, ": MISCONF Redis"),
        ("NOREPLICAS Not enough good replicas to write.", exceptions.ResponseError, ": NOREPLICAS Not"),
        ("BUSY Redis is busy running a script.", exceptions.ResponseError, ": BUSY Redis"),
        ("Link with MASTER is down", exceptions.MasterDownError, "MASTERDOWN Link"),
        ("The cluster is down", exceptions.ClusterDownError, "CLUSTERDOWN The cluster"),
        ("unknown command 'SLURMJC.PUT', with args beginning with: 'job'", exceptions.ResponseError, "is older than"),
    ],
)
def test_everything_else_is_not_now(text: str, kind: type[Exception], shown: str) -> None:
    error = translated(text, kind)
    assert isinstance(error, Unavailable)
    assert shown in str(error)
    assert "beginning with" not in str(error)


@pytest.mark.parametrize("flat", [True, False])
def test_info_is_read_from_a_list_or_a_map(flat: bool) -> None:
    marks = {b"a": 5, b"b": 7}
    fields = {b"protocol": 1, b"watermarks": [b"a", 5, b"b", 7] if flat else marks, b"server": b"redis"}
    info = storeinfo.parse_info([part for pair in fields.items() for part in pair] if flat else fields)
    assert info.watermarks == {"a": 5, "b": 7}
    assert (info.fields["protocol"], info.text("server"), info.text("missing")) == (1, "redis", "")


@pytest.mark.parametrize(
    "reply", [None, 5, b"x", [b"watermarks", [b"a"]], [b"watermarks", [b"a", b"x"]], [b"watermarks", [1, 2]]]
)
def test_info_that_makes_no_sense_is_unavailable(reply: Any) -> None:
    with pytest.raises(Unavailable):
        storeinfo.parse_info(reply)


@pytest.mark.parametrize("value", [1, b"1", b"yes"])
def test_flags_are_read_in_each_form(value: Any) -> None:
    assert storeinfo.StoreInfo({"aof_enabled": value}, {}).flag("aof_enabled")
    assert not storeinfo.StoreInfo({"aof_enabled": 0}, {}).flag("aof_enabled")


async def test_a_password_file_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    secret.chmod(0o644)
    config = Config(redis=RedisSection(address="unix:/r", password_file=secret))
    with pytest.raises(Unavailable, match="chmod 600"):
        store.Store(config).writer()


def test_tls_always_checks_the_server() -> None:
    link = store.Store(Config(redis=RedisSection(address="rediss://redis.example:6380"))).writer()
    connection: Any = link._connection
    assert type(connection).__name__ == "SSLConnection"
    assert (connection.host, connection.port) == ("redis.example", 6380)
    assert connection.ssl_context.check_hostname is True
    assert connection.ssl_context.cert_reqs.name == "CERT_REQUIRED"


PAGE = b"*2\r\n$3\r\nabc\r\n$2\r\n-x\r\n"


class Server:
    """Takes a command and the PING behind it, answers with what it is given, cut in two."""

    def __init__(self, path: Path, reply: bytes, cut: int, pong: bytes | None = None) -> None:
        self.path, self.reply, self.cut, self.pong = path, reply, cut, pong

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = b""
        while asked.count(b"\r\n") < 3 + 5:
            asked += await reader.read(4096)
        word = asked.split(b"\r\n")[-2]
        answer = self.reply + (protocol.bulk(word) if self.pong is None else self.pong)
        writer.write(answer[: self.cut])
        await writer.drain()
        await asyncio.sleep(0)
        writer.write(answer[self.cut :])
        writer.close()
        await writer.wait_closed()

    async def ask(self) -> bytes:
        server = await asyncio.start_unix_server(self.serve, self.path)
        connection = UnixDomainSocketConnection(path=str(self.path), protocol=2, driver_info=None, socket_timeout=5)
        link = StoreLink(connection, b"job", "unix:x")
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            return bytes(await link.call_unread(b"FETCH"))
        finally:
            await link.close()
            server.close()


@pytest.mark.parametrize("cut", range(0, len(PAGE) + 38, 3))
async def test_an_unread_reply_comes_as_it_is_wherever_it_is_cut(tmp_path: Path, cut: int) -> None:
    assert await Server(tmp_path / "s", PAGE, cut).ask() == PAGE


@pytest.mark.parametrize("cut", [0, 1, 20, 33, 40])
async def test_an_unread_error_is_raised_as_ours(tmp_path: Path, cut: int) -> None:
    with pytest.raises(Refused, match="no query 'q' is open"):
        await Server(tmp_path / "s", b"-NOQUERY no query 'q' is open\r\n", cut).ask()


async def test_a_server_that_refuses_the_ping_too_is_heard(tmp_path: Path) -> None:
    refusal = b"-LOADING Redis is loading the dataset in memory\r\n"
    with pytest.raises(Unavailable, match="LOADING"):
        await Server(tmp_path / "s", refusal, 10, refusal).ask()


async def test_an_unread_reply_that_ends_early_is_a_lost_connection(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="lost"):
        await Server(tmp_path / "s", PAGE, 10, b"").ask()


def test_a_connection_that_closed_a_moment_ago_is_a_lost_one(rundir: Path) -> None:
    """With the daemon's own loop, which has an exception of its own for that."""

    async def closed_before_sending() -> None:
        server = await asyncio.start_unix_server(lambda _reader, writer: writer.close(), rundir / "s")
        link = store.Store(Config(redis=RedisSection(address=f"unix:{rundir / 's'}"))).writer()
        await link._connection.connect()  # type: ignore[no-untyped-call]
        writer: Any = link._connection._writer
        closed = asyncio.create_task(writer.wait_closed())
        writer.transport.abort()
        await closed
        try:
            with pytest.raises(Unavailable, match="lost"):
                await link.send([protocol.command(protocol.PING)])
            assert not link.is_open
        finally:
            await link.close()
            server.close()

    uvloop.run(closed_before_sending())


async def test_a_question_that_ends_while_its_connection_is_looked_at_leaves_none_open(rundir: Path) -> None:
    """It was taken from those that are idle, and nobody has it now."""

    class Link(StoreLink):
        is_open = True
        closed = 0

        def __init__(self) -> None:
            """Of no server."""

        async def is_outdated(self) -> bool:
            await asyncio.Event().wait()
            raise AssertionError

        async def close(self) -> None:
            self.closed += 1

    shard = store.Store(Config(redis=RedisSection(address=f"unix:{rundir / 's'}"))).shards[0]
    link = Link()
    shard._idle.append(link)

    async def ask() -> None:
        async with shard.reader():
            raise AssertionError

    with mock.patch.object(shard._layout, "check", mock.AsyncMock()):
        asking = asyncio.create_task(ask())
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    assert link.closed == 1
    assert not shard._idle


def test_a_store_of_several_parts_is_not_asked_as_if_it_were_one() -> None:
    parts = store.Store(Config(redis=RedisSection(address="unix:/r", shards=3)))
    assert [shard.prefix for shard in parts.shards] == list(shard_prefixes(b"job", 3))
    assert parts.shard_of(7) is parts.shards[1]
    assert parts.shards[2].name == "shard 2 of 3 (job ids with id % 3 = 2)"
    for ask in (parts.writer, parts.asker, parts.reader):
        with pytest.raises(Unavailable, match="one part"):
            ask()


async def test_a_call_that_is_cancelled_as_it_has_been_sent_does_not_go_on(
    make_redis: Callable[..., RedisServer],
) -> None:
    """Whatever moment it comes at: in Python 3.11 wait_for, which redis-py sends in, loses some of them."""
    link = store.Store(Config(redis=RedisSection(address=make_redis().address))).writer()
    await link.open()

    async def calls() -> None:
        for _ in range(1000):
            await link.call(b"PING")

    for turns in range(12):
        task = asyncio.create_task(calls())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await link.close()
        await link.open()
    await link.close()
