# SPDX-License-Identifier: MIT
"""A hostile user's program: run by the system's Python under another uid, standard library only.

usage: attacker.py ATTACK SOCKET [JSON]. Prints one JSON object. It lives by itself so that an account that may enter
neither this tree nor its Python environment can run a copy of it.
"""

from __future__ import annotations

import array
import json
import os
import resource
import select
import selectors
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from typing import Any

HELLO = ("SLURMJC.HELLO", "1", "attacker/1")


def command(*words: str) -> bytes:
    parts = [word.encode("latin-1") for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


class Reader:
    """Reads RESP replies of a blocking socket; an error reply is {"error": text}, the end None."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.data = sock, b""

    def line(self) -> bytes:
        while b"\r\n" not in self.data:
            more = self.sock.recv(65536)
            if not more:
                raise EOFError
            self.data += more
        line, self.data = self.data.split(b"\r\n", 1)
        return line

    def bulk(self, size: int) -> str:
        while len(self.data) < size + 2:
            more = self.sock.recv(1 << 20)
            if not more:
                raise EOFError
            self.data += more
        value, self.data = self.data[:size], self.data[size + 2 :]
        return value.decode("latin-1")

    def value(self) -> Any:
        line = self.line()
        kind, rest = line[:1], line[1:]
        if kind == b"-":
            return {"error": rest.decode("latin-1")}
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.bulk(int(rest))
        if kind == b"*":
            return [self.value() for _ in range(int(rest))]
        return rest.decode("latin-1")


def connect(path: str, timeout_s: int = 30) -> socket.socket:
    """As sacct and slurmjc do it: where the backlog is full the kernel has a queue for who waits."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", timeout_s, 0))
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    sock.settimeout(timeout_s)
    return sock


def ask(path: str, requests: list[list[str]]) -> dict[str, Any]:
    """Send requests, one after the other, on one connection; what came back."""
    sock = connect(path)
    reader = Reader(sock)
    replies: list[Any] = []
    try:
        for words in [list(HELLO), *requests]:
            sock.sendall(command(*words))
            replies.append(reader.value())
    except (EOFError, OSError) as exc:
        replies.append({"closed": str(exc)})
    return {"hello": replies[0], "replies": replies[1:]}


def raw(path: str, chunks: list[str]) -> dict[str, Any]:
    """Send bytes as they are; everything that comes back until the end or a second of silence."""
    sock = connect(path)
    sock.settimeout(1)
    came, closed = b"", False
    with suppress(OSError):
        for chunk in chunks:
            sock.sendall(chunk.encode("latin-1"))
    try:
        while data := sock.recv(65536):
            came += data
        closed = True
    except TimeoutError:
        pass
    except OSError:
        closed = True
    return {"came": came.decode("latin-1"), "closed": closed}


def told(options: dict[str, Any]) -> bool:
    """Whether the end of standard input says that it is enough; only an attack with the option "told" listens."""
    return bool(options.get("told")) and bool(select.select([0], [], [], 0)[0])


def kept(sock: socket.socket) -> bool:
    """Whether the other side, or its backlog, still has the connection: one that was refused or cut is closed there."""
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return not poll.poll(0)


def knock(path: str, first: bytes, patience_s: float) -> socket.socket | str:
    """One connection that sends `first` and is held, or in what words it was refused within the patience."""
    try:
        sock = connect(path, 5)
    except OSError as exc:
        return type(exc).__name__
    try:
        sock.settimeout(patience_s)
        refusal = sock.recv(200).decode("latin-1").strip()
    except TimeoutError:
        with suppress(OSError):
            sock.sendall(first)
        return sock
    except OSError as exc:
        refusal = type(exc).__name__
    sock.close()
    return refusal


def answered(sock: socket.socket) -> bool:
    """Whether anything came that was not read: no connection in the backlog has that."""
    return bool(select.select([sock], [], [], 0)[0])


def flood(path: str, options: dict[str, Any]) -> dict[str, Any]:
    """Open connections as fast as they go and keep those that are let in.

    With the option "hold" they are kept to the end, when those with an answer are counted, and with "told" too the
    place of each that was cut is fought for.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    until = time.monotonic() + options["seconds"]
    first = b"".join(command(*words) for words in options.get("send", []))
    held: list[socket.socket] = []
    tried = 0
    refusals: list[str] = []

    def attempt() -> None:
        nonlocal tried
        tried += 1
        found = knock(path, first, 0.001 if len(held) < 64 else 0.05)
        if isinstance(found, str):
            refusals.append(found)
        else:
            held.append(found)

    while time.monotonic() < until and tried < options["connections"]:
        attempt()
    if options.get("hold"):
        time.sleep(1)
        held = [sock for sock in held if kept(sock)]
    while options.get("hold") and time.monotonic() < until and not told(options):
        if options.get("told"):
            attempt()
        time.sleep(0.05)
        held = [sock for sock in held if kept(sock)]
        for sock in held:
            with suppress(OSError):
                sock.setblocking(False)
                if options.get("drip"):
                    sock.send(b"*")
                if options.get("sip"):
                    sock.recv(1)
    if options.get("hold"):
        held = [sock for sock in held if answered(sock) and kept(sock)]
    return {"tried": tried, "refused": len(refusals), "held": len(held), "texts": sorted(set(refusals))[:5]}


def bad(path: str, options: dict[str, Any]) -> dict[str, Any]:
    """Requests that are wrong, pipelined as fast as they are taken; how many were answered, and in what words."""
    wrong = [
        ("SLURMJC.MATCH", "q", "uid", "\n\x1b[31mroot\r\n"), ("SLURMJC.FETCH", "other", "10", "RECORDS"),
        ("SLURMJC.GET", "-1"), ("FLUSHALL",), ("SLURMJC.PUT", "SPOOL", "s", "1", "RECORDS", "x"),
        ("SLURMJC.AGG", "BY", "uid"), ("\x1b]0;evil\x07\n<2>slurmjcd: fake line",), ("SLURMJC.TRIM", "BEFORE", "9"),
    ]  # fmt: skip
    block = b"".join(command(*words) for words in wrong)
    sock = connect(path)
    reader = Reader(sock)
    sock.sendall(command(*HELLO))
    reader.value()
    sock.setblocking(False)
    until, answered, texts, out = time.monotonic() + options["seconds"], 0, set(), b""
    selector = selectors.DefaultSelector()
    selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
    rest = b""
    while answered < options["requests"] and time.monotonic() < until and not told(options):
        for _, events in selector.select(1):
            if events & selectors.EVENT_READ:
                data = b""
                with suppress(ConnectionError):
                    data = sock.recv(1 << 18)
                if not data:
                    return {"answered": answered, "texts": sorted(texts), "closed": True}
                lines = (rest + data).split(b"\r\n")
                rest = lines.pop()
                answered += len(lines)
                if len(texts) < 50:
                    texts.update(line[:60].decode("latin-1") for line in lines[:50])
            if events & selectors.EVENT_WRITE:
                if not out:
                    out = block * 100
                with suppress(BlockingIOError, ConnectionError):
                    out = out[sock.send(out) :]
    return {"answered": answered, "texts": sorted(texts), "closed": False}


def churn(path: str, options: dict[str, Any]) -> dict[str, Any]:
    """Connect, greet, ask, go away without reading; never wait."""
    until, tried = time.monotonic() + options["seconds"], 0
    first = command(*HELLO) + command("SLURMJC.MATCH", "q") + command("SLURMJC.FETCH", "q", "2000", "RECORDS")
    while time.monotonic() < until and not told(options):
        with socket.socket(socket.AF_UNIX) as sock, suppress(OSError):
            sock.setblocking(False)
            sock.connect(path)
            sock.send(first)
        tried += 1
    return {"tried": tried}


def huge(path: str, options: dict[str, Any]) -> dict[str, Any]:
    """One request that claims and sends far too much; how many bytes were taken before it was cut."""
    sock = connect(path)
    sock.sendall(options["head"].encode("latin-1"))
    block, sent = b"x" * (1 << 20), 0
    with suppress(OSError):
        while sent < options["bytes"]:
            sock.sendall(block)
            sent += len(block)
    answer = b""
    with suppress(OSError):
        answer = sock.recv(1000)
    return {"sent": sent, "answer": answer.decode("latin-1")}


def descriptors(path: str, options: dict[str, Any]) -> dict[str, Any]:
    """Pass descriptors along with requests."""
    sock = connect(path)
    with open("/dev/null", "rb") as file:
        passed = array.array("i", [file.fileno()] * 100)
        for _ in range(options["times"]):
            sock.sendmsg([command("PING")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])
    reader = Reader(sock)
    return {"replies": [reader.value() for _ in range(options["times"])]}


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(1)


def files(path: str, options: dict[str, Any]) -> dict[str, Any]:
    """Try to take a socket's place, to read what is the daemon's, and to signal it; what went through."""
    run_dir, state_dir, pid = options["run_dir"], options["state_dir"], options["pid"]
    went: list[str] = []

    def attempt(name: str, action: Any) -> None:
        try:
            action()
        except OSError:
            return
        went.append(name)

    mine = socket.socket(socket.AF_UNIX)
    attempt("unlink", lambda: os.unlink(path))
    attempt("rename", lambda: os.rename(path, path + ".old"))
    attempt("bind", lambda: mine.bind(f"{run_dir}/evil.sock"))
    attempt("symlink", lambda: os.symlink("/etc/passwd", f"{run_dir}/query.sock.lock2"))
    attempt("lock", lambda: os.open(f"{run_dir}/query.sock.lock", os.O_RDWR))
    attempt("replace directory", lambda: os.rename(run_dir, run_dir + ".old"))
    attempt("read the state", lambda: os.listdir(state_dir))
    attempt("read the configuration's secrets", lambda: read(options["secret"]))
    attempt("ingest", lambda: connect(f"{run_dir}/ingest.sock"))
    attempt("redis", lambda: connect(options["redis"]))
    attempt("signal", lambda: os.kill(pid, signal.SIGTERM))
    attempt("environment", lambda: read(f"/proc/{pid}/environ"))
    attempt("descriptors", lambda: os.listdir(f"/proc/{pid}/fd"))
    attempt("memory", lambda: read(f"/proc/{pid}/mem"))
    return {"went": went}


ATTACKS = {
    attack.__name__: attack for attack in (ask, raw, flood, bad, churn, huge, descriptors, files)
}  # fmt: skip


if __name__ == "__main__":
    result = ATTACKS[sys.argv[1]](sys.argv[2], json.loads(sys.argv[3] if len(sys.argv) > 3 else "{}"))  # type: ignore[operator]
    print(json.dumps({"uid": os.geteuid(), **result}))
