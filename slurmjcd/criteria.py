# SPDX-License-Identifier: MIT
"""The criteria of MATCH and AGG: their names, and how a caller's own jobs are all that a question can reach. No I/O.

Values are judged by the module; here is only what the access policy must be sure of.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from slurmjcd.errors import Refused

NAMES: Final = (
    b"start", b"end", b"job", b"uid", b"gid", b"user", b"group", b"account", b"cluster", b"partition", b"qos",
    b"wckey", b"reservation", b"name", b"qos_id", b"state", b"exit", b"nodes_count", b"cpus_count", b"time_limit",
    b"node", b"constraint", b"reason", b"limit",
)  # fmt: skip
_KNOWN: Final = frozenset(NAMES)
# what the module takes from us alone: the job is of this uid, or of one of these accounts
VIEWER: Final = b"viewer"
VIEWER_ACCOUNT: Final = b"viewer_account"
AGG_FIELDS: Final = (b"user", b"account", b"partition", b"state", b"qos", b"name", b"cluster", b"day", b"hour")
_UID_MAX: Final = 2**32 - 1

Criteria = list[tuple[bytes, bytes]]


def pairs(args: Sequence[bytes]) -> Criteria:
    """Criteria from a request's arguments, names in lower case.

    Raises:
        Refused: a name without value, or an unknown name.
    """
    if len(args) % 2:
        raise Refused("criteria are pairs of name and value, the last name has no value")
    criteria = [(args[i].lower(), args[i + 1]) for i in range(0, len(args), 2)]
    for name, _ in criteria:
        if name not in _KNOWN:
            expected = b", ".join(NAMES).decode()
            raise Refused(f"unknown criterion '{name.decode('utf-8', 'replace')}', expected one of {expected}")
    return criteria


def flatten(criteria: Criteria) -> list[bytes]:
    return [part for pair in criteria for part in pair]


def only_uid(criteria: Criteria, uid: int) -> Criteria | None:
    """The same question about the jobs of one uid; None when it was about other users only.

    Criteria of one name are alternatives, so a caller's own `uid` must not stay beside ours: it is replaced.

    Raises:
        Refused: a `uid` value that is no list of numbers.
    """
    asked = [uid_list(value) for name, value in criteria if name == b"uid"]
    if asked and not any(uid in uids for uids in asked):
        return None
    return [(name, value) for name, value in criteria if name != b"uid"] + [(b"uid", b"%d" % uid)]


def only_accounts(criteria: Criteria, uid: int, accounts: Iterable[str]) -> Criteria:
    """The same question about the jobs of one uid and those of these accounts, whoever's they are."""
    viewed = [(VIEWER_ACCOUNT, account.encode("utf-8", "surrogateescape")) for account in sorted(accounts)]
    return [*criteria, (VIEWER, b"%d" % uid), *viewed]


def uid_list(value: bytes) -> set[int]:
    """The numbers of a comma list.

    Raises:
        Refused: anything else.
    """
    numbers = set()
    for part in value.split(b","):
        digits = part.lstrip(b"0") or part[:1]
        if not digits.isdigit() or len(digits) > 10 or int(digits) > _UID_MAX:
            raise Refused(f"uid takes a comma list of numbers, not '{value[:64].decode('utf-8', 'replace')}'")
        numbers.add(int(digits))
    return numbers
