# SPDX-License-Identifier: MIT
"""Whose process is at the other end of a TCP connection on this host: asked of the kernel, one socket at a time.

A Unix socket has SO_PEERCRED for that. For TCP the other end is a socket of this network namespace as well, and
sock_diag(7) tells the uid that made it. (The table in /proc/self/net/tcp tells it too, but has to be read whole: 250 ms
where somebody left 30,000 closed connections behind.)
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import Final

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_NO_COOKIE: Final = 0xFFFFFFFF
_ANY_STATE: Final = 0xFFFFFFFF
_ESTABLISHED: Final = 1

_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr
_REQUEST: Final = struct.Struct("=BBBBI")  # inet_diag_req_v2 up to its id: family, protocol, …, states
_PORTS: Final = struct.Struct("!HH")  # inet_diag_sockid: ports, two addresses of 16 bytes, then
_WHICH: Final = struct.Struct("=III")  # ... interface and cookie
_REPLY: Final = struct.Struct("=BB2x48x12xII")  # inet_diag_msg: family, state, …, uid, inode
_REPLY_BYTES: Final = 8192

Address = tuple[str, int]


def peer_uid(ours: Address, theirs: Address) -> int | None:
    """The uid whose socket ours is connected to; None when the kernel doesn't tell, or it is closed already.

    A closed socket waits as nobody's for a while, with uid 0: that of an inode counts only.

    Args:
        ours, theirs: as socket.getsockname() and getpeername() have them.
    """
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as kernel:
            kernel.send(_question(theirs, ours))
            answer = kernel.recv(_REPLY_BYTES)
    except OSError:
        return None
    if len(answer) < _HEADER.size + _REPLY.size or _HEADER.unpack_from(answer)[1] != _SOCK_DIAG_BY_FAMILY:
        return None
    _, state, uid, inode = _REPLY.unpack_from(answer, _HEADER.size)
    return uid if state == _ESTABLISHED and inode else None


def is_told() -> bool:
    """Whether this kernel tells whose a socket is."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        return peer_uid(client.getpeername(), client.getsockname()) is not None


def _question(local: Address, remote: Address) -> bytes:
    """The message that asks for one socket."""
    addresses = [ipaddress.ip_address(address[0]) for address in (local, remote)]
    family = socket.AF_INET if addresses[0].version == 4 else socket.AF_INET6
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _ANY_STATE) + _PORTS.pack(local[1], remote[1])
    body += b"".join(address.packed.ljust(16, b"\0") for address in addresses)
    body += _WHICH.pack(0, _NO_COOKIE, _NO_COOKIE)
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0) + body
