# SPDX-License-Identifier: MIT
"""Bytes as the body that jobcomp/elasticsearch posts: a record that the module can keep, or an error of one line."""

from __future__ import annotations

from typing import Final

from slurmjcd.errors import ProtocolError
from slurmjcd.intake.document import read
from slurmjcd.intake.resizes import Resizes
from slurmjcd.record import decode

REQUIRED: Final = ("job_id", "uid", "gid", "state", "submit", "eligible", "start", "end", "restart_count")
NUMBER_MAX: Final = 2**32 - 1


def one_input(data: bytes) -> None:
    try:
        document = read(data, "demo", Resizes(), now=1)
    except ProtocolError as refused:
        text = str(refused)
        assert 0 < len(text) < 1000, text
        assert "\n" not in text, text
        return
    assert 1 <= document.job_id <= NUMBER_MAX
    if document.record is None:
        return
    fields = decode(document.record)
    assert all(isinstance(fields[name], int) and fields[name] >= 0 for name in REQUIRED), fields
    assert fields["cluster"] == "demo"
    assert fields["end"] > 0
    for value in [*fields.values(), *fields["extra"].values()]:
        assert "\0" not in value if isinstance(value, str) else True
