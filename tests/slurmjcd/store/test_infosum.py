# SPDX-License-Identifier: MIT
"""SLURMJC.INFO of several shards as of one store."""

from __future__ import annotations

from typing import Any

from slurmjcd.store.infosum import sum_infos
from slurmjcd.store.storeinfo import StoreInfo


def info(run_id: bytes, jobs: int, marks: dict[str, int] | None = None, **fields: Any) -> StoreInfo:
    told = {
        "run_id": run_id, "server": b"redis", "protocol": 1, "jobs": jobs, "bytes": 70 * jobs, "bytes_per_job": 70,
        "oldest": None, "newest": None, "used_memory": 1000, "maxmemory": 5000, "aof_enabled": 1, "replicas": 2,
        "appendfsync": b"everysec", "events_last": b"1-0", "time_ms": 5,
    }  # fmt: skip
    return StoreInfo(told | fields, marks or {})


def test_one_is_told_as_it_is() -> None:
    one = info(b"a", 3, {"s": 7})
    assert sum_infos([one]) is one


def test_counts_of_shards_are_added_and_servers_counted_once() -> None:
    whole = sum_infos([info(b"a", 3), info(b"a", 4, used_memory=1001), info(b"b", 0, used_memory=200)]).fields
    assert (whole["shards"], whole["jobs"], whole["bytes"], whole["bytes_per_job"]) == (3, 7, 490, 70)
    assert (whole["used_memory"], whole["maxmemory"], whole["run_id"]) == (1201, 10_000, b"a, b")
    assert sum_infos([info(b"a", 1), info(b"b", 1, maxmemory=0)]).fields["maxmemory"] == 0  # one has no end
    assert sum_infos([info(b"a", 0), info(b"b", 0)]).fields["bytes_per_job"] == 0


def test_a_watermark_is_what_every_shard_has() -> None:
    whole = sum_infos([info(b"a", 1, {"s": 7, "t": 3}), info(b"b", 1, {"s": 5})])
    assert whole.watermarks == {"s": 5, "t": 0}
    assert whole.fields["watermarks"] == [b"s", 5, b"t", 0]


def test_times_are_of_the_shards_that_have_jobs() -> None:
    whole = sum_infos([info(b"a", 0), info(b"b", 2, oldest=5, newest=9), info(b"c", 1, oldest=7, newest=7)]).fields
    assert (whole["oldest"], whole["newest"]) == (5, 9)
    assert sum_infos([info(b"a", 0), info(b"b", 0)]).fields["oldest"] is None


def test_the_weakest_counts_and_what_differs_is_told() -> None:
    several = [
        info(b"a", 1),
        info(b"b", 1, aof_enabled=0, replicas=0, appendfsync=b"no", protocol=2, events_last=b"9-1"),
    ]
    whole = sum_infos(several)
    assert not whole.flag("aof_enabled")
    assert (whole.fields["replicas"], whole.fields["appendfsync"]) == (0, b"everysec, no")
    assert (whole.fields["protocol"], whole.fields["events_last"]) == (b"1, 2", b"1-0,9-1")
    assert sum_infos([info(b"a", 1), info(b"b", 1)]).fields["protocol"] == 1


def test_days_of_all_shards_are_added_up() -> None:
    one = info(b"a", 3, segment_sizes=[[5, 2, 140, 900], [7, 1, 70, None]])
    other = info(b"b", 2, segment_sizes=[[5, 1, 70, 950], [6, 1, 70, 990]])
    third = info(b"c", 1, segment_sizes=[[7, 1, 70, 990]])
    assert sum_infos([one, other, third]).fields["segment_sizes"] == [
        [5, 3, 210, 950], [6, 1, 70, 990], [7, 2, 140, None],
    ]  # fmt: skip
