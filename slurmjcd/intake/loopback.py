# SPDX-License-Identifier: MIT
"""Whose process is at the other end of a TCP connection on this host: the kernel's table of sockets says it.

A Unix socket has SO_PEERCRED for that. For TCP the other end is a socket of this network namespace as well, with a
line of its own in /proc/self/net/tcp (proc_pid_net(5)): its addresses, its state and the uid that made it.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from pathlib import Path
from typing import Final

_TABLES: Final = {socket.AF_INET: Path("/proc/self/net/tcp"), socket.AF_INET6: Path("/proc/self/net/tcp6")}
_ESTABLISHED: Final = "01"
_READS: Final = 5
_LOCAL, _REMOTE, _STATE, _UID, _INODE = 1, 2, 3, 7, 9  # columns


def peer_uid(sock: socket.socket) -> int | None:
    """The uid whose socket this one is connected to; None when the kernel doesn't tell, or it is closed already.

    A closed socket waits in the table as nobody's, with uid 0: that of an inode counts only.
    """
    table = _TABLES.get(sock.family)
    if table is None:
        return None
    try:
        theirs, ours = _in_table(sock.getpeername()), _in_table(sock.getsockname())
        for _ in range(_READS):
            # the table is read in pieces, and a line may move from one to the other meanwhile: it is looked for again
            for line in table.read_text("ascii").splitlines():
                columns = line.split() if theirs in line else []
                if columns and columns[_LOCAL] == theirs and columns[_REMOTE] == ours:
                    return int(columns[_UID]) if columns[_STATE] == _ESTABLISHED and columns[_INODE] != "0" else None
    except (OSError, ValueError):
        pass
    return None


def _in_table(address: tuple[str, int]) -> str:
    """An address as the table has it: words of 32 bits in this machine's order, and the port."""
    packed = ipaddress.ip_address(address[0]).packed
    words = [int.from_bytes(packed[at : at + 4], sys.byteorder) for at in range(0, len(packed), 4)]
    return "".join(f"{word:08X}" for word in words) + f":{address[1]:04X}"
