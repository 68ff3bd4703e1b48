# SPDX-License-Identifier: MIT
"""The errors that slurmjcd's parts tell each other.

SlurmjcdError
 ├─ ConfigError       the configuration can't be used; the text says what would be right
 ├─ ProtocolError     the peer sent what no client of ours sends; the connection closes
 ├─ SpoolError        the spool can't be used as it is
 │   └─ SpoolFull     the spool has reached its size limit
 └─ StoreError        Redis or its module did not do what was asked
     ├─ Unavailable   not now: hold what we have and try again
     │   └─ Moved     another server has it now, or is about to: ask again
     ├─ OutOfSequence the store expects another sequence number
     ├─ BadRecord     one record of a batch is malformed
     └─ Refused       the request itself is wrong (its text goes back to who asked)
"""

from __future__ import annotations


class SlurmjcdError(Exception):
    """Base of all errors raised on purpose."""


class ConfigError(SlurmjcdError):
    """The configuration can't be used."""


class ProtocolError(SlurmjcdError):
    """Bytes on a socket that break the protocol. `code` is the RESP error code to answer with."""

    def __init__(self, message: str, *, code: str = "ERR") -> None:
        super().__init__(message)
        self.code = code


class SpoolError(SlurmjcdError):
    """The spool can't be used as it is."""


class SpoolFull(SpoolError):
    """The spool has reached its size limit."""


class StoreError(SlurmjcdError):
    """Redis or its module did not do what was asked."""


class Unavailable(StoreError):
    """The store can't be reached or doesn't take commands now; never a record's fault."""


class Moved(Unavailable):
    """Another server has by now what was asked for, or it is on its way there: find it and ask again."""


class OutOfSequence(StoreError):
    """The store's watermark doesn't fit. `expected` is the sequence number it would take."""

    def __init__(self, expected: int) -> None:
        super().__init__(f"the store expects sequence number {expected}")
        self.expected = expected


class BadRecord(StoreError):
    """Record number `index` of a batch (from 0) is malformed, for the reason `why`."""

    def __init__(self, index: int, why: str) -> None:
        super().__init__(f"record {index}: {why}")
        self.index = index
        self.why = why


class Refused(StoreError):
    """The store refuses the request for what it says. `code` is the RESP error code."""

    def __init__(self, message: str, *, code: str = "ERR") -> None:
        super().__init__(message)
        self.code = code
