# SPDX-License-Identifier: MIT
"""Addresses of a database. Rows are read from a real one in tests/histories."""

from __future__ import annotations

import pytest

from slurmjcd.importing.item import WrongFormat
from slurmjcd.importing.mysqltable import MysqlTable, _where


@pytest.mark.parametrize(
    ("url", "expected", "table"),
    [
        ("mysql://slurm@db/slurm_jobcomp_db", {"user": "slurm", "host": "db", "port": 3306}, "jobcomp_table"),
        ("mysql://slurm@db:3307/x?table=old_table", {"port": 3307, "database": "x"}, "old_table"),
        ("mysql://root@/x?socket=/run/m.sock", {"unix_socket": "/run/m.sock", "user": "root"}, "jobcomp_table"),
        ("mysql://s@db/x?ca=/ca.pem", {"ssl_ca": "/ca.pem", "ssl_verify_identity": True}, "jobcomp_table"),
    ],
)
def test_an_address(url: str, expected: dict[str, object], table: str) -> None:
    where, found = _where(url)
    assert expected.items() <= where.items()
    assert found == table


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://slurm:secret@db/x", "must not hold a password"),
        ("mysql://slurm@db", "is no address of a database, expected mysql://USER@HOST"),
        ("mysql:///x", "is no address of a database"),
        ("mysql://db/x?tabel=y", "is no address of a database"),
        ("mysql://db/x?table=a;drop", "is no"),
        ("mysql://db:none/x", "is no address"),
        ("mysql://127.0.0.1:1/x", "Can't connect to MySQL server"),
    ],
)
def test_a_wrong_address_says_what_would_be_right(url: str, said: str) -> None:
    with pytest.raises(WrongFormat, match=said):
        MysqlTable(url, None, "c1")
