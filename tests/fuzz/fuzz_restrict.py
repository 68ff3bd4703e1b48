# SPDX-License-Identifier: MIT
"""Criteria as the access policy reads them and as the module does: of an answer, users get what is theirs.

The first byte says who asks, the second which accounts they coordinate; then follow criteria, a 'name value' a line.
"""

from __future__ import annotations

from typing import Final

from slurmjcd import criteria
from slurmjcd.access.policy import View, lower
from slurmjcd.errors import Refused
from tests.fuzz.crowd import crowd

JOBS: Final = crowd().jobs
ACCOUNTS: Final = sorted({lower(job.account) for job in JOBS if job.account})
OURS: Final = (criteria.VIEWER, criteria.VIEWER_ACCOUNT)


def seen(view: View) -> frozenset[int]:
    return frozenset(number for number, job in enumerate(JOBS) if view.allows(job.uid, job.account))


def one_input(data: bytes) -> None:
    uid, mask = data[0] % 9 if data else 0, data[1] if len(data) > 1 else 0
    asked = [(name, value) for name, _, value in (line.partition(b" ") for line in data[2:].split(b"\n"))]
    whole = crowd().ask(asked)
    try:
        known = criteria.pairs(criteria.flatten(asked))
    except Refused:
        assert isinstance(whole, str) or any(name.lower() in OURS for name, _ in asked)
        return
    assert not any(name in OURS for name, _ in known)
    try:
        mine = criteria.only_uid(known, uid)
    except Refused:
        assert isinstance(whole, str)
        return
    accounts = frozenset(account for number, account in enumerate(ACCOUNTS) if mask >> number % 8 & 1)
    theirs = crowd().ask(criteria.only_accounts(known, uid, accounts))
    own = crowd().ask(mine) if mine is not None else frozenset()
    if isinstance(whole, str):
        assert isinstance(own, str) or mine is None
        assert isinstance(theirs, str)
        return
    assert own == whole & seen(View(uid))
    assert theirs == whole & seen(View(uid, accounts=accounts))
