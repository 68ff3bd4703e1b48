# SPDX-License-Identifier: MIT
"""A client of the daemon's sockets for tests: bytes out, replies in."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import hiredis

from slurmjcd import protocol


class Wire:
    """One connection; `call` raises nothing: an error reply is returned as hiredis.ReplyError."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._parser = hiredis.Reader()

    @classmethod
    async def connect(cls, path: Path, *, hello: bool = True) -> Wire:
        wire = cls(*await asyncio.open_unix_connection(path))
        if hello:
            assert (await wire.call("SLURMJC.HELLO", 1, "test/1"))[0] == b"server"
        return wire

    def send(self, *args: bytes | str | int) -> None:
        self.writer.write(protocol.command(*args))

    def send_raw(self, data: bytes) -> None:
        self.writer.write(data)

    async def reply(self) -> Any:
        """The next reply, EOFError when the connection is closed instead."""
        while (reply := self._parser.gets()) is False:
            async with asyncio.timeout(20):
                data = await self.reader.read(65536)
            if not data:
                raise EOFError
            self._parser.feed(data)
        return reply

    async def call(self, *args: bytes | str | int) -> Any:
        self.send(*args)
        return await self.reply()

    async def put(self, seq: int, *records: bytes, source: str = "ring") -> Any:
        return await self.call("SLURMJC.PUT", "SPOOL", source, seq, "RECORDS", *records)

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            pass


def text(reply: Any) -> str:
    """An error reply's text; fails when it is none."""
    assert isinstance(reply, hiredis.ReplyError), reply
    return str(reply)
