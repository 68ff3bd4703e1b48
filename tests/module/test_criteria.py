# SPDX-License-Identifier: MIT
"""Every criterion against a plain Python model, on jobs and questions hypothesis makes up."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from tests.module.conftest import Store
from tests.module.records import NOON, Job, Model, job

ID = st.integers(1, 12)
TIME = st.integers(NOON - 30, NOON + 30)
NAME = st.sampled_from([None, "", "a", "b", "ab", "A", "aB"])
LIST = st.sampled_from(["n1", "n[1-3]", "n[2,4-5],gpu1", "n0[1-2]", "n10", "n1[0-2]", "r[1-2]-ib"])
STATE = st.sampled_from([0, 1, 3, 4, 5])


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    end = draw(st.one_of(TIME, st.sampled_from([NOON - 86400, NOON + 86400])))
    flags = draw(st.sampled_from([0, 0, 0, 0x2000, 0x6000]))
    reason = draw(st.sampled_from([0, 0, 5, 7]))
    return job(
        draw(ID),
        end,
        array_job_id=draw(st.one_of(st.none(), ID)),
        array_task_id=draw(st.one_of(st.none(), st.integers(0, 5))),
        het_job_id=draw(st.one_of(st.none(), ID)),
        het_job_offset=draw(st.one_of(st.none(), st.integers(0, 3))),
        uid=draw(st.integers(0, 4)),
        gid=draw(st.integers(0, 4)),
        qos_id=draw(st.one_of(st.none(), st.integers(0, 3))),
        **{
            name: draw(NAME)
            for name in ("user", "group", "account", "cluster", "partition", "qos", "wckey", "reservation", "name")
        },
        state=draw(STATE),
        exit_code=draw(st.sampled_from([None, 0, 256, 9, 9 | 128, 256 | 9])),
        submit=draw(TIME),
        eligible=draw(st.one_of(st.just(0), TIME)),
        start=draw(st.one_of(st.just(0), TIME)),
        time_limit=draw(st.sampled_from([None, 0, 1, 60, "UNLIMITED", "Partition_Limit", 4294967293])),
        node_count=draw(st.sampled_from([None, 0, 1, 2, 64])),
        cpu_count=draw(st.sampled_from([None, 0, 1, 2, 4294967295])),
        nodes=draw(st.one_of(st.none(), LIST)),
        features=draw(st.sampled_from([None, "", "A", "a&b", "[c*2&a]"])),
        extra={key: value for key, value in (("state_flags", flags), ("state_reason_prev", reason)) if value},
    )


BOUNDS = st.sampled_from(["0", "1", "1-2", "2-", "-1", "60", "4294967295", "0-4294967295"])
JOB_IDS = st.one_of(
    ID.map(str),
    st.tuples(ID, ID).map(lambda pair: f"{min(pair)}-{max(pair)}"),
    st.tuples(ID, st.integers(0, 5)).map(lambda pair: f"{pair[0]}_{pair[1]}"),
    ID.map(lambda leader: f"{leader}_[0-2,4]"),
    st.tuples(ID, st.integers(0, 3)).map(lambda pair: f"{pair[0]}+{pair[1]}"),
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "job": JOB_IDS,
    "uid": st.integers(0, 5),
    "gid": st.integers(0, 5),
    "qos_id": st.integers(0, 4),
    **{
        name: st.sampled_from(["", "a", "B", "zz"])
        for name in ("user", "group", "account", "cluster", "partition", "qos", "wckey", "reservation", "name")
    },
    "state": st.sampled_from([0, 1, 3, 4, 5, 6, 0x2000, 0x4000]),
    "exit": st.sampled_from(["0", "1", "0:9", "1:9"]),
    "nodes_count": BOUNDS,
    "cpus_count": BOUNDS,
    "time_limit": BOUNDS,
    "node": st.one_of(LIST, st.just("zz9")),
    "constraint": st.sampled_from(["", "a", "B", "zz"]),
    "reason": st.sampled_from([0, 5, 6]),
}


@st.composite
def questions(draw: st.DrawFn) -> dict[str, list[Any]]:
    names = draw(st.lists(st.sampled_from(sorted(VALUES)), max_size=3, unique=True))
    asked = {name: draw(st.lists(VALUES[name], min_size=1, max_size=2)) for name in names}
    since, until = sorted((draw(TIME), draw(TIME)))
    if draw(st.booleans()):
        asked["start"] = [since]
    if draw(st.booleans()):
        asked["end"] = [until]
    if draw(st.booleans()):
        asked["viewer"] = [draw(st.integers(0, 5))]
        asked["viewer_account"] = draw(st.lists(st.sampled_from(["a", "B", "ab", "zz"]), max_size=2))
    return asked


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(stored=st.lists(jobs(), min_size=1, max_size=30), asked=st.lists(questions(), min_size=1, max_size=15))
def test_criteria(store: Store, stored: list[Job], asked: list[dict[str, list[Any]]]) -> None:
    store.client.flushall()
    model = Model()
    for record in stored:
        assert store.put(record) == model.put(record)
    for question in asked:
        pairs = [item for name, values in question.items() for value in values for item in (name, value)]
        assert store.find(*pairs) == model.match(**question), question


def test_case_is_ignored_among_many_names(store: Store) -> None:
    """With this many strings in one segment they are compared as rows come, not beforehand."""
    names = [f"Run-{number}" for number in range(20_500)]
    store.put(*(job(number + 1, NOON, name=name) for number, name in enumerate(names)))
    assert store.ids("name", "run-20400", "name", "RUN-1") == [2, 20401]
    assert store.ids("name", "run-20500") == []
