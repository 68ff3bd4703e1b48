# SPDX-License-Identifier: MIT
"""Whose process is at the other end of a TCP connection on this host: the kernel's table of sockets says it.

A Unix socket has SO_PEERCRED for that. For TCP the other end is a socket of this network namespace as well, with a
line of its own in /proc/self/net/tcp (proc_pid_net(5)): its addresses, its state and the uid that made it.
"""

from __future__ import annotations

import ipaddress
import re
import sys
from pathlib import Path
from typing import Final

_TABLES: Final = {4: Path("/proc/self/net/tcp"), 6: Path("/proc/self/net/tcp6")}
_ESTABLISHED: Final = "01"
# behind the addresses: state, queues, timer, retransmissions, uid, timeout, inode
_REST: Final = r" ([0-9A-F]{2}) \S+ \S+ \S+ +(\d+) +\d+ (\d+) "

Address = tuple[str, int]


def peer_uid(ours: Address, theirs: Address) -> int | None:
    """The uid whose socket ours is connected to; None when the kernel doesn't tell, or it is closed already.

    A closed socket waits in the table as nobody's, with uid 0: that of an inode counts only. The table has a line for
    every socket of the host and is read whole, 30 ms for 20,000: don't call this on the event loop.

    Args:
        ours, theirs: as socket.getsockname() and getpeername() have them.
    """
    address = ipaddress.ip_address(theirs[0])
    try:
        table = _TABLES[address.version].read_text("ascii")
    except (OSError, ValueError):
        return None
    line = re.search(f" {_in_table(theirs)} {_in_table(ours)}{_REST}", table)
    if line is None or line[1] != _ESTABLISHED or line[3] == "0":
        return None
    return int(line[2])


def _in_table(address: Address) -> str:
    """An address as the table has it: words of 32 bits in this machine's order, and the port."""
    packed = ipaddress.ip_address(address[0]).packed
    words = [int.from_bytes(packed[at : at + 4], sys.byteorder) for at in range(0, len(packed), 4)]
    return "".join(f"{word:08X}" for word in words) + f":{address[1]:04X}"
