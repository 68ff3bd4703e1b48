# SPDX-License-Identifier: MIT
"""query.sock over Redis and files answers as if all were in Redis: rows, their order, sums, byte for byte."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from slurmjcd.access.policy import AccessPolicy, Peer
from slurmjcd.cold.engine import Engine
from slurmjcd.cold.reader import ColdDays
from slurmjcd.cold.tier import ColdTier, first_day
from slurmjcd.config.settings import Config
from slurmjcd.health.metrics import Metrics
from slurmjcd.query.server import query_server
from slurmjcd.store.store import Store as Parts
from tests.harness import RedisServer
from tests.module.records import DAY, NOON, Job, Model, job
from tests.module.test_criteria import jobs, questions
from tests.slurmjcd.cold.conftest import Store, config_for, move, pairs_of, write_files
from tests.slurmjcd.cold.test_moving import run_of
from tests.slurmjcd.cold.test_reader import FIELDS, ODD
from tests.slurmjcd.wire import Wire, text

STORED = st.lists(
    st.tuples(
        st.one_of(
            jobs(),
            st.builds(run_of, st.integers(1, 4), st.sampled_from([NOON - 86400, NOON, NOON + 7, NOON + 86400])),
        ),
        st.sampled_from(["hot", "cold", "both"]),
    ),
    min_size=1,
    max_size=30,
)


class Tiered:
    """A query half over a server and files."""

    def __init__(self, config: Config, engine: Engine) -> None:
        assert config.cold.dir is not None
        self.server = query_server(
            Parts(config), config.query, Metrics(), AccessPolicy(private=False, operators=[], operator_uids=[0])
        )
        self.tier = ColdTier(config.cold, ColdDays(config.cold.dir, engine), lambda: self.server.shards)
        self.server.older = self.tier.sources

    @asynccontextmanager
    async def wire(self) -> AsyncIterator[Wire]:
        with tempfile.TemporaryDirectory(prefix="sj-") as name:
            path = Path(name) / "q.sock"
            listener = await asyncio.get_running_loop().create_unix_server(self.server.connection, path)
            wire = await Wire.connect(path)
            try:
                yield wire
            finally:
                await wire.close()
                listener.close()
                await self.server.close()
                await self.server.store.close()
                self.tier.close()


async def rows(
    wire: Wire, *words: object, count: int = 1000, form: tuple[str, ...] = ("RECORDS",), name: str = "job"
) -> list[Any]:
    found = await wire.call("SLURMJC.MATCH", "q", *map(str, words))
    if found is None:
        return []
    assert found == f"{name}:mat:q".encode(), found
    out: list[Any] = []
    while page := await wire.call("SLURMJC.FETCH", "q", count, *form):
        assert isinstance(page, list), page
        out += page
    return out


def in_redis(store: Store, *words: object, form: tuple[str, ...] = ("RECORDS",)) -> list[Any]:
    if store.call("MATCH", "q", *words) is None:
        return []
    out: list[Any] = []
    while page := store.call("FETCH", "q", 1000, *form):
        out += page
    return out


def spread(store: Store, directory: Path, stored: list[tuple[Job, str]]) -> Store:
    """Put what is `hot` into Redis, what is `cold` into files, and all into another prefix, which is returned.

    What a file has came before what Redis has; of a run files have one report.
    """
    whole, cold = Store(store.client, "whole"), Model()
    for record, where in stored:
        if where != "hot":
            cold.put(record)
    write_files(directory, cold.runs.values())
    for record in cold.match():
        whole.put(record)
    for record, where in stored:
        if where == "hot" or (where == "both" and record in cold.match()):
            store.put(record)
            whole.put(record)
    return whole


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    stored=STORED,
    asked=st.lists(questions(), min_size=1, max_size=8),
    by=st.lists(st.sampled_from(FIELDS), min_size=1, max_size=2),
    count=st.sampled_from([1, 3, 1000]),
    limit=st.sampled_from([None, 0, 1, 4]),
)
def test_as_if_all_were_in_redis(
    store: Store,
    server: RedisServer,
    engine: Engine,
    stored: list[tuple[Job, str]],
    asked: list[dict[str, list[Any]]],
    by: list[str],
    count: int,
    limit: int | None,
) -> None:
    store.client.flushall()
    with tempfile.TemporaryDirectory() as name:
        whole = spread(store, Path(name), stored)

        async def compare() -> None:
            tiered = Tiered(config_for(server, Path(name)), engine)
            async with tiered.wire() as wire:
                for question in asked:
                    words = [item for key, values in question.items() for value in values for item in (key, value)]
                    words += ["limit", limit] if limit is not None else []
                    if "viewer" not in question:
                        assert await rows(wire, *words, count=count) == in_redis(whole, *words), question
                        assert await wire.call("SLURMJC.AGG", "BY", *by, *map(str, words)) == whole.call(
                            "AGG", "BY", *by, *words
                        ), question
                for number in range(1, 5):
                    assert await wire.call("SLURMJC.GET", number) == whole.call("GET", number)

        asyncio.run(compare())


@pytest.mark.parametrize(
    ("cold", "hot"), [(NOON + 86400, NOON), (NOON, NOON + 86400), (NOON, NOON + 7), (NOON + 7, NOON)]
)
async def test_a_report_that_another_outdates(
    store: Store, server: RedisServer, engine: Engine, tmp_path: Path, cold: int, hot: int
) -> None:
    """In Redis the replay of an old report, whose day may have no file; or in a file one that has come again since."""
    whole = spread(store, tmp_path, [(run_of(1, cold), "cold"), (job(2, NOON + 86400), "cold")])
    store.put(run_of(1, hot), job(3, NOON))
    whole.put(run_of(1, hot), job(3, NOON))
    async with Tiered(config_for(server, tmp_path), engine).wire() as wire:
        for words in ((), ("state", 3, "start", NOON - 9, "end", NOON + 9), ("job", 1), ("uid", 1000)):
            assert await rows(wire, *words) == in_redis(whole, *words), words
            said = await wire.call("SLURMJC.AGG", "BY", "day", *map(str, words))
            assert said == whole.call("AGG", "BY", "day", *words), words
        assert await wire.call("SLURMJC.GET", 1) == whole.call("GET", 1)


async def test_every_form_of_a_row(store: Store, server: RedisServer, engine: Engine, tmp_path: Path) -> None:
    more = job(
        30, NOON, extra={"req_gres": "gpu:2", "big": 2**64 - 1, "map": {"a": [1.5, True]}}, time_limit="UNLIMITED"
    )
    records = [*ODD, more, job(31, NOON, time_limit="Partition_Limit", exit_code=256, derived_exit_code=9)]
    whole = spread(store, tmp_path, [(record, "cold") for record in records])
    async with Tiered(config_for(server, tmp_path), engine).wire() as wire:
        assert await rows(wire) == in_redis(whole)
        assert await rows(wire, form=()) == in_redis(whole, form=())
        for record in records:
            assert await wire.call("SLURMJC.GET", record["job_id"]) == whole.call("GET", record["job_id"])


async def test_a_window_that_is_hot_touches_no_file(
    store: Store, server: RedisServer, engine: Engine, tmp_path: Path
) -> None:
    """Not even the directory, which isn't there."""
    now = int(time.time())
    store.put(job(1, now))
    async with Tiered(config_for(server, tmp_path / "away", after_days=7), engine).wire() as wire:
        assert len(await rows(wire, "start", now - 6 * 86400)) == 1
        assert len(await rows(wire, "start", now - 6 * 86400, "state", 3)) == 1
        for words in (("start", now - 8 * 86400), ("user", "alice"), ("start", now - 3600, "state", "0,3")):
            said = text(await wire.call("SLURMJC.MATCH", "q", *map(str, words)))
            assert said.startswith("UNAVAILABLE Redis and files: "), said
            assert f"{tmp_path / 'away'} can't be read: No such file or directory" in said
        said = text(await wire.call("SLURMJC.AGG", "BY", "user"))
        assert said.startswith("UNAVAILABLE")
        assert text(await wire.call("SLURMJC.GET", 1)).startswith("UNAVAILABLE")


async def test_a_damaged_file_is_an_error_and_no_shorter_answer(
    store: Store, server: RedisServer, engine: Engine, tmp_path: Path
) -> None:
    whole = spread(store, tmp_path, [(job(number, NOON + number * 86400), "cold") for number in range(3)[1:]])
    assert whole.ids() == [1, 2]
    path = tmp_path / "2022-01-10.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    async with Tiered(config_for(server, tmp_path), engine).wire() as wire:
        for call in (("SLURMJC.MATCH", "q"), ("SLURMJC.AGG", "BY", "user"), ("SLURMJC.GET", 1)):
            said = text(await wire.call(*call))
            assert said.startswith(f"UNAVAILABLE Redis and files: {path} can't be read: "), said
        # what the file can't have is answered
        assert len(await rows(wire, "state", 3, "start", 0, "end", NOON + 86400)) == 1


async def test_bad_criteria_get_the_modules_words(
    store: Store, server: RedisServer, engine: Engine, tmp_path: Path
) -> None:
    async with Tiered(config_for(server, tmp_path), engine).wire() as wire:
        for words in (("uid", "x"), ("start", "yesterday"), ("job", "1-")):
            with pytest.raises(Exception, match="criterion") as raised:
                store.call("MATCH", "q", *words)
            assert text(await wire.call("SLURMJC.MATCH", "q", *words)) == f"ERR {raised.value}"


async def test_an_own_job_only(
    store: Store, server: RedisServer, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spread(store, tmp_path, [(job(number, NOON, uid=1000 + number % 2), "cold") for number in range(1, 9)])
    monkeypatch.setattr("slurmjcd.query.asking.peer_of", lambda transport: Peer(1001, 1, 1))
    tiered = Tiered(config_for(server, tmp_path), engine)
    tiered.server.policy = AccessPolicy(private=True, operators=[], operator_uids=[])
    async with tiered.wire() as wire:
        assert len(await rows(wire)) == 4
        assert (await wire.call("SLURMJC.AGG", "BY", "user"))[0][1] == 4
        assert await wire.call("SLURMJC.GET", 2) == []
        assert len(await wire.call("SLURMJC.GET", 3)) == 1


async def test_rows_that_wait_to_be_fetched_are_counted(
    store: Store, server: RedisServer, engine: Engine, tmp_path: Path
) -> None:
    """Those of Redis, of files, and of both that are the same."""
    records = [job(number, NOON + number % 3 * 86400) for number in range(1, 100)]
    spread(store, tmp_path, [(record, ["hot", "cold", "both"][record["job_id"] % 7 % 3]) for record in records])
    tiered = Tiered(config_for(server, tmp_path), engine)
    async with tiered.wire() as wire:
        assert await wire.call("SLURMJC.MATCH", "q") is not None
        (connection,) = tiered.server.connections
        held = []
        for _ in range(len(records)):
            held.append(connection.kept_bytes)
            assert len(await wire.call("SLURMJC.FETCH", "q", 1, "RECORDS")) == 1
        assert held[0] > len(records) * 60 > held[-30] > 1000
        assert connection.kept_bytes == 0


@pytest.mark.parametrize("count", [1, 2, 100])
async def test_days_that_are_moved_while_they_are_told(
    store: Store, server: RedisServer, engine: Engine, tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each page: the day at hand, one that was told, and one to come go into files under the reader's eyes."""
    records = [job(number, NOON + number // 4 * 86400 + number % 4) for number in range(1, 25)]
    late = [job(100, NOON + 1), job(101, NOON + 86400 + 2)]
    monkeypatch.setattr("slurmjcd.cold.tiercursor._PAGE", 2)
    for moment in range(13):
        directory = tmp_path / str(moment)
        directory.mkdir()
        store.client.flushall()
        whole = spread(
            store,
            directory,
            [(record, "cold" if record["end"] < NOON + 2 * 86400 - 43200 else "hot") for record in records]
            + [(record, "hot") for record in late],
        )
        expected = in_redis(whole)
        config = config_for(server, directory, after_days=1)
        async with Tiered(config, engine).wire() as wire:
            assert await wire.call("SLURMJC.MATCH", "q") is not None
            found: list[Any] = []
            for page in range(1000):
                if page == moment:
                    await asyncio.to_thread(move, config, engine, (DAY + 6) * 86400)
                answer = await wire.call("SLURMJC.FETCH", "q", count, "RECORDS")
                found += answer
                if not answer:
                    break
            assert found == expected, moment


async def test_files_that_are_replaced_while_they_are_told(
    store: Store, server: RedisServer, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Late records are merged into files that a question looked at and has not read yet: rows shift between groups."""
    monkeypatch.setattr("slurmjcd.cold.writer.GROUP_ROWS", 2)
    records = [job(10 * day + number, NOON + day * 86400 + number) for day in range(4) for number in range(1, 5)]
    late = [job(100, NOON + 2 * 86400), job(101, NOON + 3 * 86400)]
    for moment in range(10):
        directory = tmp_path / str(moment)
        directory.mkdir()
        store.client.flushall()
        whole = spread(
            store, directory, [(record, "cold") for record in records] + [(record, "hot") for record in late]
        )
        config = config_for(server, directory, after_days=1)
        async with Tiered(config, engine).wire() as wire:
            assert await wire.call("SLURMJC.MATCH", "q") is not None
            found: list[Any] = []
            for page in range(1000):
                if page == moment:
                    await asyncio.to_thread(move, config, engine, (DAY + 6) * 86400)
                answer = await wire.call("SLURMJC.FETCH", "q", 2, "RECORDS")
                found += answer
                if not answer:
                    break
            assert found == in_redis(whole), moment


async def test_a_day_that_is_moved_while_it_is_summed(
    store: Store, server: RedisServer, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between Redis' sums and those of files: it would count twice."""
    whole = spread(store, tmp_path, [(job(1), "cold"), (job(2, NOON + 86400), "hot"), (job(3, NOON + 9), "hot")])
    config = config_for(server, tmp_path, after_days=1)
    tiered = Tiered(config, engine)
    summed = tiered.tier._sums

    async def moving(plan: Any) -> Any:
        await asyncio.to_thread(move, config, engine, (DAY + 6) * 86400)
        return await summed(plan)

    monkeypatch.setattr(tiered.tier, "_sums", moving)
    async with tiered.wire() as wire:
        assert await wire.call("SLURMJC.AGG", "BY", "day") == whole.call("AGG", "BY", "day")
    assert store.ids() == []


def test_the_first_day_is_the_engines() -> None:
    for words in ((), ("start", NOON), ("start", NOON, "state", 3), ("start", NOON, "state", "3,0"), ("job", 7)):
        asked = pairs_of(*words)
        assert first_day(asked) == (DAY if "start" in words and "3,0" not in words else 0)
    assert first_day(pairs_of("start", "x")) == 0
