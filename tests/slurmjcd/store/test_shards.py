# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from slurmjcd.store import shards
from slurmjcd.store.shards import SLOTS, Layout


def test_one_shard_has_the_configured_prefix() -> None:
    assert shards.shard_prefixes(b"job", 1) == (b"job",)
    assert shards.shard_prefixes(b"a{b}", 1) == (b"a{b}",)


@pytest.mark.parametrize("count", [2, 3, 6, 7, 256])
@pytest.mark.parametrize("prefix", [b"job", b"a:rather:long:prefix:with:many:parts"])
def test_each_shard_lies_in_its_part_of_the_slots(prefix: bytes, count: int) -> None:
    prefixes = shards.shard_prefixes(prefix, count)
    assert len(set(prefixes)) == count
    for number, each in enumerate(prefixes):
        assert number * SLOTS / count <= shards.slot_of(each) < (number + 1) * SLOTS / count
        assert shards.slot_of(each) == shards.slot_of(each + b":seg:19000") == shards.slot_of(each + b":spools")


def test_prefixes_stay_what_they_are() -> None:
    """Jobs lie under them: another version has to find them there."""
    assert shards.shard_prefixes(b"job", 3) == (b"{job-0-3.2}", b"{job-1-3.1}", b"{job-2-3.1}")


def test_layouts_share_no_prefix() -> None:
    """So that jobs can move from one to the other while both are there."""
    assert not set(shards.shard_prefixes(b"job", 3)) & set(shards.shard_prefixes(b"job", 6))


def test_a_job_is_in_one_shard() -> None:
    assert [shards.shard_of(job_id, 3) for job_id in (0, 1, 2, 3, 4_294_967_295)] == [0, 1, 2, 0, 0]
    assert shards.name_of(2, 6) == "shard 2 of 6 (job ids with id % 6 = 2)"


@pytest.mark.parametrize("value", [b"1", b"3", b"256", b"3>6", b"256>1"])
def test_a_layout_is_read_as_it_was_written(value: bytes) -> None:
    assert bytes(shards.parse_layout(value)) == value


def test_what_a_layout_says() -> None:
    assert shards.parse_layout(b"3") == Layout(3)
    assert shards.parse_layout(b"3>6") == Layout(3, moving_to=6)
    assert shards.layout_key(b"job") == b"job:shards"


@pytest.mark.parametrize("value", [b"", b"0", b"03", b"3>", b">3", b"3>0", b"x", b"3 ", b"-1", b"1000", b"\xff" * 100])
def test_what_is_no_layout(value: bytes) -> None:
    with pytest.raises(ValueError, match="is no number of shards"):
        shards.parse_layout(value)
