# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmjcd import criteria
from slurmjcd.errors import Refused


def test_pairs_takes_names_in_any_case() -> None:
    assert criteria.pairs([b"USER", b"ada", b"start", b"1"]) == [(b"user", b"ada"), (b"start", b"1")]


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ([b"user"], "the last name has no value"),
        ([b"usr", b"x"], "unknown criterion 'usr', expected one of start, end"),
    ],
)
def test_pairs_refuses(args: list[bytes], text: str) -> None:
    with pytest.raises(Refused, match=text):
        criteria.pairs(args)


def test_only_uid_adds_the_callers_uid() -> None:
    assert criteria.only_uid([(b"state", b"5")], 7) == [(b"state", b"5"), (b"uid", b"7")]


def test_only_uid_replaces_a_list_that_has_the_caller() -> None:
    assert criteria.only_uid([(b"uid", b"0,7"), (b"uid", b"8")], 7) == [(b"uid", b"7")]
    assert criteria.only_uid([(b"uid", b"8"), (b"uid", b"7")], 7) == [(b"uid", b"7")]


def test_only_uid_of_other_users_only_is_nothing() -> None:
    assert criteria.only_uid([(b"uid", b"0"), (b"uid", b"8,9")], 7) is None


def test_every_uid_value_is_read_though_the_first_one_has_the_caller() -> None:
    with pytest.raises(Refused, match="not 'x'"):
        criteria.only_uid([(b"uid", b"7"), (b"uid", b"x")], 7)


def test_uids_may_begin_with_zeros_as_they_may_in_the_module() -> None:
    assert criteria.uid_list(b"0,007,00000000000000000001") == {0, 7, 1}


@pytest.mark.parametrize("value", [b"", b"a", b"7,", b"-7", b"7 ", b"07x", b"4294967296", b"9" * 40, "٣".encode()])
def test_uid_list_refuses_what_is_no_list_of_uids(value: bytes) -> None:
    with pytest.raises(Refused, match="uid takes a comma list of numbers"):
        criteria.uid_list(value)


@given(
    st.lists(st.tuples(st.sampled_from([*criteria.NAMES, b"UID", b"Uid"]), st.binary(max_size=12))),
    st.integers(0, 2**32 - 2),
)
def test_no_question_reaches_beyond_the_callers_uid(asked: list[tuple[bytes, bytes]], uid: int) -> None:
    """Whatever is asked, what goes to the store has exactly one uid criterion: the caller's."""
    try:
        allowed = criteria.only_uid(criteria.pairs(criteria.flatten(asked)), uid)
    except Refused:
        return
    if allowed is not None:
        assert [value for name, value in allowed if name.lower() == b"uid"] == [b"%d" % uid]
