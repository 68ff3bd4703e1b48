# SPDX-License-Identifier: MIT
"""Rows and groups of several sources as one answer: the same as of one source that has it all."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmjcd.errors import Refused
from slurmjcd.query.merging import GROUPS_MAX, Group, Page, PageMerge, merge_groups, row_key

# keys from few, so that sources share them; the row says which source it is of, and is of any length
SOURCES = st.lists(st.lists(st.integers(0, 30), max_size=60).map(sorted), min_size=1, max_size=5)


def row(source: int, place: int, key: int) -> bytes:
    return b"%d/%d/%d" % (source, place, key) + b"." * (key % 4)


def everything(sources: list[list[int]]) -> list[bytes]:
    rows = [(key, source, place) for source, keys in enumerate(sources) for place, key in enumerate(keys)]
    return [row(source, place, key) for key, source, place in sorted(rows)]


class Feed:
    """Gives pages of sources, of sizes that hypothesis draws."""

    def __init__(self, sources: list[list[int]], data: st.DataObject) -> None:
        self.rows = [[(key, row(s, place, key)) for place, key in enumerate(keys)] for s, keys in enumerate(sources)]
        self.data = data

    def page(self, source: int) -> Page:
        n = self.data.draw(st.integers(1, 20))
        page, self.rows[source] = self.rows[source][:n], self.rows[source][n:]
        return Page([key for key, _ in page], [text for _, text in page])


@given(sources=SOURCES, data=st.data())
def test_rows_come_in_order_whatever_the_portions_are(sources: list[list[int]], data: st.DataObject) -> None:
    merge, feed, out = PageMerge(len(sources)), Feed(sources, data), list[bytes]()
    while merge.going or len(merge):
        for source in set(merge.starved) | (data.draw(st.sets(st.integers(0, 4))) & set(merge.below(10))):
            merge.add(source, feed.page(source))
        most = data.draw(st.integers(1, 25))
        taken = merge.take(most)
        assert len(taken) <= most
        out += taken
        assert len(merge) == sum(map(len, sources)) - sum(map(len, feed.rows)) - len(out)
    assert out == everything(sources)
    assert merge.bytes == 0
    assert merge.take(5) == []


@given(sources=SOURCES, data=st.data())
def test_something_comes_as_soon_as_no_source_is_starved(sources: list[list[int]], data: st.DataObject) -> None:
    """So whoever asks for a page never gets an empty one before the end."""
    merge, feed = PageMerge(len(sources)), Feed(sources, data)
    for source in merge.starved:
        merge.add(source, feed.page(source))
    assert not merge.starved
    assert bool(merge.take(1)) == any(sources)


def test_nothing_is_taken_past_what_a_source_may_yet_give() -> None:
    merge = PageMerge(2)
    merge.add(0, Page([1, 5, 9], [b"a1", b"a5", b"a9"]))
    assert merge.starved == [1]
    assert merge.take(10) == []
    merge.add(1, Page([2, 5], [b"b2", b"b5"]))
    assert merge.take(10) == [b"a1", b"b2", b"a5", b"b5"]
    assert merge.starved == [1]
    merge.add(1, Page([], []))
    assert merge.take(10) == [b"a9"]
    assert (merge.going, len(merge)) == (1, 0)


def test_bytes_are_of_the_rows_that_are_held() -> None:
    merge = PageMerge(2)
    merge.add(0, Page([1, 2], [b"x" * 10, b"x" * 20]))
    merge.add(1, Page([3], [b"x" * 5]))
    assert merge.bytes == 35
    assert merge.take(1) == [b"x" * 10]
    assert merge.bytes == 25


@pytest.mark.parametrize("page", [Page([1], [b"a", b"b"]), Page([1, 2], [b"a"])])
def test_a_page_without_a_key_for_each_row_is_refused(page: Page) -> None:
    with pytest.raises(ValueError, match="one key for each row"):
        PageMerge(1).add(0, page)


def test_a_page_behind_the_last_one_is_refused() -> None:
    merge = PageMerge(1)
    merge.add(0, Page([], []))
    with pytest.raises(ValueError, match="behind its end"):
        merge.add(0, Page([1], [b"a"]))


def test_keys_sort_as_end_and_then_job_id() -> None:
    pairs = [(0, 1), (0, 2**32 - 1), (1, 0), (1_700_000_000, 7), (1_700_000_000, 8), (2**40, 1)]
    assert [row_key(*pair) for pair in pairs] == sorted(row_key(*pair) for pair in reversed(pairs))


# ---- groups ----------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from([None, b"", b"a", b"ab", b"b", b"\xff", b"a-", b"9", b"10"])
GROUPS = st.lists(st.tuples(NAMES, NAMES, *[st.integers(0, 3)] * 5), max_size=20)


def reference(groups: list[tuple[Any, ...]]) -> list[Group]:
    sums: dict[Any, list[int]] = defaultdict(lambda: [0] * 5)
    for a, b, *values in groups:
        sums[a, b] = [x + y for x, y in zip(sums[a, b], values, strict=True)]
    order = sorted(sums, key=lambda n: (-sums[n][0], *((part is None, part or b"") for part in n)))
    return [[*name, *sums[name]] for name in order]


@given(answers=st.lists(GROUPS, max_size=4), most=st.none() | st.integers(0, 5))
def test_groups_are_added_up_and_sorted_as_one(answers: list[list[tuple[Any, ...]]], most: int | None) -> None:
    whole = reference([group for answer in answers for group in answer])
    merged = merge_groups([[list(group) for group in answer] for answer in answers], most)
    assert merged == (whole if most is None else whole[:most])


def test_a_sum_is_no_larger_than_the_module_can_say() -> None:
    large = 2**63 - 1
    assert merge_groups([[[b"a", 1, large, 2, 3, 4]], [[b"a", 1, 1, 2, 3, 4]]]) == [[b"a", 2, large, 4, 6, 8]]


def test_more_groups_than_one_answer_may_have_are_refused() -> None:
    half = GROUPS_MAX // 2 + 1
    answers = [[[b"%d" % i, 1, 0, 0, 0, 0] for i in range(first, first + half)] for first in (0, half)]
    with pytest.raises(Refused, match="more than 262144 groups, narrow the criteria") as refused:
        merge_groups(answers)
    assert refused.value.code == "LIMIT"
