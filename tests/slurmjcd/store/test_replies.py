# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import InvalidResponse

from slurmjcd import protocol
from slurmjcd.config.settings import Config, RedisSection
from slurmjcd.errors import Unavailable
from slurmjcd.store import store, storelink
from slurmjcd.store.replies import BYTES_MAX, ELEMENTS_MAX, ReplyGuard, is_table
from slurmjcd.store.storelink import StoreLink

VALUES = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
).filter(lambda value: _depth(value) < 8)


def _depth(value: object) -> int:
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


@given(st.lists(VALUES, min_size=1, max_size=6), st.data())
def test_what_protocol_writes_passes_wherever_it_is_cut(values: list[object], data: st.DataObject) -> None:
    """And the guard ends where hiredis does: between replies it remembers nothing."""
    stream = b"".join(map(protocol.reply, values)) + b"-ERR a\nb\rc\r\n+OK\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    guard = ReplyGuard()
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        guard.check(stream[begin:end])
    assert (guard._skip, guard._line, guard._open, guard._elements, guard._bytes) == (0, b"", [], 0, 0)


def test_the_stream_passes_byte_by_byte() -> None:
    guard, stream = ReplyGuard(), protocol.reply([b"a\r\nb", 7, None, [b"", b"x" * 30]]) * 3
    for number in range(len(stream)):
        guard.check(stream[number : number + 1])
    assert (guard._skip, guard._line, guard._open) == (0, b"", [])


@given(st.binary(max_size=200))
def test_any_bytes_pass_or_are_refused_and_hiredis_takes_what_passes(data: bytes) -> None:
    """Nothing that passed makes hiredis' reader allocate what did not come."""
    guard, reader = ReplyGuard(), hiredis.Reader()
    try:
        guard.check(data)
    except InvalidResponse:
        return
    reader.feed(data)
    try:
        while reader.gets() is not False:
            pass
    except hiredis.ProtocolError:
        pass  # its own checks come behind ours


@pytest.mark.parametrize(
    ("stream", "text"),
    [
        (b"*2147483647\r\n", "may have 4194304 elements, this one has 2147483647"),
        (b"*%d\r\n" % (ELEMENTS_MAX + 1), "this one has 4194305"),
        (b"*3000000\r\n*3000000\r\n", "this one has 6000000"),
        (b"*9223372036854775807\r\n", "elements"),
        (b"*99999999999999999999\r\n", "is no number"),
        (b"*1e9\r\n", "is no number"),
        (b"*\r\n", "is no number"),
        (b"$9223372036854775807\r\n", f"may have {BYTES_MAX} bytes, a string in this one has 9223372036854775807"),
        (b"*1\r\n" * 9, "more than 8 arrays in each other"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "can't begin with b'H'"),
        (b">2\r\n+x\r\n+y\r\n", "can't begin with b'>'"),
        (b"%2147483647\r\n", "can't begin with b'%'"),
        (b"~2147483647\r\n", "can't begin with b'~'"),
        (b"+" + b"x" * 70_000, "more than 65536 bytes"),
        (b"*4\r\n" + b"$30000000\r\n" + b"x" * 30_000_000 + b"\r\n$50000000\r\n" + b"x" * 40_000_000, "bytes"),
    ],
    ids=range(15),
)
def test_what_no_reply_of_ours_is_like_is_refused(stream: bytes, text: str) -> None:
    with pytest.raises(InvalidResponse, match=text):
        ReplyGuard().check(stream)


@given(
    st.lists(
        st.lists(st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=9), min_size=1, max_size=7),
        min_size=1,
    )
)
def test_a_table_is_read_without_the_guard_as_with_it(rows: list[list[object]]) -> None:
    data = protocol.reply(rows)
    assert is_table(data) or any(isinstance(value, bytes) and b"\r\n" in value for row in rows for value in row)
    assert storelink.parse_reply(data) == rows


@pytest.mark.parametrize(
    "data",
    [
        b"*2147483647\r\n", b"*1\r\n*2147483647\r\n", b"*1\r\n*100\r\n:1\r\n", b"*2\r\n*1\r\n:1\r\n",
        b"*0\r\n*1\r\n:1\r\n",
        b"*1\r\n*1\r\n%2147483647\r\n", b"*1\r\n*1\r\n~99\r\n", b"*1\r\n*1\r\n>99\r\n", b"*1\r\n*1\r\n|99\r\n",
        b"*1\r\n*1\r\n*1\r\n:1\r\n", b":1\r\n", b"", b"*-1\r\n", b"%1\r\n*1\r\n:1\r\n",
    ],
)  # fmt: skip
def test_what_could_make_room_for_more_is_no_table(data: bytes) -> None:
    assert not is_table(data)


def test_the_limits_are_for_each_reply() -> None:
    guard = ReplyGuard()
    for _ in range(3):
        guard.check(protocol.bulk(b"x" * (BYTES_MAX // 2)))
    for _ in range(ELEMENTS_MAX // 100_000 + 2):
        guard.check(b"*100000\r\n" + b":1\r\n" * 100_000)


@contextlib.asynccontextmanager
async def answering(path: Path, reply: bytes, *, times: int = 1) -> AsyncIterator[StoreLink]:
    """A link to a server that answers the first thing it hears so, so many times over."""
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read(4096)
            for _ in range(times):
                writer.write(reply)
                await writer.drain()
            await reader.read(1)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        ended.set()

    server = await asyncio.start_unix_server(serve, path)
    link = store.Store(Config(redis=RedisSection(address=f"unix:{path}"))).writer()
    try:
        yield link
    finally:
        await link.close()
        await ended.wait()
        server.close()


@pytest.mark.parametrize("reply", [b"*2147483647\r\n", b"*1\r\n*2147483647\r\n"])
async def test_a_link_drops_a_server_that_announces_too_much(tmp_path: Path, reply: bytes) -> None:
    """Refused by what it says; hiredis' reader would have begun with an array of 16 GiB."""
    async with answering(tmp_path / "s", reply) as link:
        with pytest.raises(Unavailable, match="a reply may have 4194304 elements"):
            await link.open()


async def test_info_whose_names_are_arrays_is_unavailable(tmp_path: Path) -> None:
    async with answering(tmp_path / "s", b"*2\r\n*0\r\n*0\r\n") as link:
        with pytest.raises(Unavailable, match="speaks protocol None"):
            await link.open()


async def test_a_page_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storelink, "PAGE_BYTES_MAX", 1_000_000)
    async with answering(tmp_path / "s", b"$10\r\n0123456789\r\n" * 10_000, times=1000) as link:
        await link._connection.connect()  # type: ignore[no-untyped-call]
        with pytest.raises(Unavailable, match="a page may have 1000000 bytes"):
            await link.call_unread(b"FETCH")
