# SPDX-License-Identifier: MIT
"""A stand-in for slurmjcd on its two sockets, for the edge cases of the protocol that a real daemon never shows."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

Handler = Callable[[list[bytes]], bytes | None]


def bulk(value: bytes) -> bytes:
    """value as a RESP bulk string."""
    return b"$%d\r\n%s\r\n" % (len(value), value)


def array(items: list[bytes]) -> bytes:
    """A RESP array of bulk strings."""
    return b"*%d\r\n" % len(items) + b"".join(bulk(item) for item in items)


def parse(buffer: bytearray) -> list[bytes] | None:
    """Takes one whole request off the front of buffer; None when it is not whole yet."""
    if not buffer.startswith(b"*") or b"\r\n" not in buffer:
        return None
    at = buffer.index(b"\r\n")
    count, args = int(buffer[1:at]), []
    at += 2
    for _ in range(count):
        end = buffer.find(b"\r\n", at)
        if end < 0:
            return None
        size = int(buffer[at + 1 : end])
        if len(buffer) < end + 2 + size + 2:
            return None
        args.append(bytes(buffer[end + 2 : end + 2 + size]))
        at = end + 2 + size + 2
    del buffer[:at]
    return args


class FakeDaemon:
    """Serves one socket; keeps what PUT brings in `stored`, one dict of sequence number to record per source.

    `put` may be replaced by a handler that returns the reply's bytes, or None to close the connection.
    """

    #: At the end of a reply: closes the connection behind it.
    CLOSE = b"<close>"
    #: Inside a reply: what follows is sent when the next request has come.
    AWAIT = b"<await>"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stored: dict[bytes, dict[int, bytes]] = {}
        self.counters: dict[bytes, dict[bytes, int]] = {}
        self.requests: list[list[bytes]] = []
        self.put: Handler = self.take
        self.max_request_bytes = 1 << 20
        self.query: Handler | None = None
        self.lock = threading.Lock()
        self._clients: list[socket.socket] = []
        self._listener: socket.socket | None = None

    def start(self) -> FakeDaemon:
        """Listens; a stopped one may be started again."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen()
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Goes away with all its connections."""
        assert self._listener is not None
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        os.unlink(self.path)
        self.drop_clients()

    def drop_clients(self) -> None:
        """Closes every connection."""
        for client in self._clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        self._clients.clear()

    def take(self, request: list[bytes]) -> bytes:
        """PUT as docs/protocol.md has it: in order, without holes, known records skipped."""
        source, seq, records = request[2], int(request[3]), request[5:]
        stored = self.stored.setdefault(source, {})
        expected = len(stored) + 1
        if seq > expected:
            return b"-OUTOFSEQ %d\r\n" % expected
        new = 0
        for number, record in enumerate(records, seq):
            if number not in stored:
                stored[number] = record
                new += 1
        return b":%d\r\n" % new

    def records(self) -> list[bytes]:
        """Every record taken, source by source in order."""
        with self.lock:
            return [numbered[n] for numbered in self.stored.values() for n in sorted(numbered)]

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self._clients.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        buffer = bytearray()
        with client, contextlib.suppress(OSError):
            while data := client.recv(1 << 20):
                buffer += data
                while (request := parse(buffer)) is not None:
                    with self.lock:
                        reply = self._reply(request)
                    if reply is None:
                        return
                    head, wait, rest = reply.removesuffix(self.CLOSE).partition(self.AWAIT)
                    client.sendall(head)
                    if wait:
                        buffer += client.recv(1 << 20)
                        client.sendall(rest)
                    if reply.endswith(self.CLOSE):
                        return

    def _reply(self, request: list[bytes]) -> bytes | None:
        self.requests.append(request)
        command = request[0].upper()
        if command == b"SLURMJC.HELLO":
            return (
                b"*6\r\n"
                + bulk(b"server")
                + bulk(b"fake/1")
                + bulk(b"protocol")
                + b":1\r\n"
                + bulk(b"max_request_bytes")
                + b":%d\r\n" % self.max_request_bytes
            )
        if command == b"SLURMJC.PUT":
            return self.put(request)
        if command == b"SLURMJC.RING":
            pairs = request[2:]
            self.counters[request[1]] = {pairs[i]: int(pairs[i + 1]) for i in range(0, len(pairs), 2)}
            return b"+OK\r\n"
        return self.query(request) if self.query else b"-ERR unknown command\r\n"
