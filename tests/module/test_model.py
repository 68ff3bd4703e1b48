# SPDX-License-Identifier: MIT
"""A master and its replica against a plain Python model, through whatever hypothesis thinks of."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import hypothesis.strategies as st
import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.harness import RedisServer
from tests.module.conftest import Store
from tests.module.records import DAY, Job, Model, completion, job, pack
from tests.module.test_criteria import jobs, questions
from tests.module.test_server import free_port

LONG = 10**10  # seconds to live that nobody sees the end of


@pytest.fixture(scope="module")
def pair(session_rundir: Path) -> Iterator[tuple[RedisServer, RedisServer]]:
    port = free_port()
    master = RedisServer(
        session_rundir / "model-master",
        options={
            "port": port,
            "appendonly": "yes",
            "appendfsync": "always",
            "repl-diskless-sync-delay": 0,
            "repl-ping-replica-period": 1,
        },
    )
    replica = RedisServer(
        session_rundir / "model-replica",
        options={"replicaof": f"127.0.0.1 {port}", "repl-diskless-load": "swapdb"},
    )
    master.start()
    replica.start()
    yield master, replica
    replica.stop()
    master.stop()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def grouped(rows: list[Job], field: str) -> list[list[Any]]:
    """What AGG BY field says of the rows."""
    groups: dict[Any, list[int]] = {}
    for row in rows:
        run = max(row["end"] - row["start"], 0) if row["start"] else 0
        wait = max((row["start"] or row["end"]) - (row["eligible"] or row["submit"]), 0)
        sums = groups.setdefault(row[field], [0] * 5)
        for i, value in enumerate((1, run * (row["node_count"] or 0), run * (row["cpu_count"] or 0), wait, run)):
            sums[i] += value
    named = [[None if key is None else str(key).encode(), *sums] for key, sums in groups.items()]
    return sorted(named, key=lambda row: (-row[1], row[0] is None, row[0] or b""))


class Machine(RuleBasedStateMachine):
    servers: ClassVar[tuple[RedisServer, RedisServer]]

    @initialize()
    def empty(self) -> None:
        self.model = Model()
        self.watermark = 0
        self.connect()
        self.master.client.flushall()

    def connect(self) -> None:
        self.master, self.replica = (Store(server.client()) for server in self.servers)

    def teardown(self) -> None:
        if hasattr(self, "master"):
            self.disconnect()

    def disconnect(self) -> None:
        self.master.client.close()
        self.replica.client.close()

    @rule(records=st.lists(jobs(), min_size=1, max_size=20), ttl=st.sampled_from([None, LONG, LONG * 2]))
    def put(self, records: list[Job], ttl: int | None) -> None:
        stored = sum(self.model.put(record) for record in records)
        options = ("TTL", ttl) if ttl else ()
        assert self.master.put(*records, options=options) == stored

    @rule(records=st.lists(jobs(), min_size=1, max_size=5), within=st.sampled_from(["MULTI", "script"]))
    def put_within(self, records: list[Job], within: str) -> None:
        """What a transaction or a script stores reaches everything else as a PUT does."""
        stored, blobs = sum(self.model.put(record) for record in records), [pack(record) for record in records]
        if within == "script":
            script = "return redis.call('SLURMJC.PUT', KEYS[1], 'RECORDS', unpack(ARGV))"
            assert self.master.client.eval(script, 1, "job", *blobs) == stored
            return
        pipe = self.master.client.pipeline(transaction=True)
        pipe.execute_command("SLURMJC.PUT", "job", "RECORDS", *blobs)
        pipe.execute_command("SLURMJC.AGG", "job", "BY", "user")
        counted = pipe.execute()
        assert counted == [stored, grouped(self.model.match(), "user")]

    @rule(records=st.lists(jobs(), min_size=1, max_size=5), at=st.integers(0, 4))
    def put_with_a_bad_one_among_them(self, records: list[Job], at: int) -> None:
        blobs = [pack(record) for record in records]
        blobs.insert(at, pack({**records[0], "end": 0}))
        with pytest.raises(redis.ResponseError, match=f"^BADRECORD {min(at, len(records))} "):
            self.master.call("PUT", "RECORDS", *blobs)

    @rule(
        records=st.lists(jobs(), max_size=5),
        back=st.integers(0, 3),
        ahead=st.integers(0, 2),
        gap=st.booleans(),
        others=st.none() | st.integers(0, 4),
    )
    def put_from_a_spool(self, records: list[Job], back: int, ahead: int, gap: bool, others: int | None) -> None:
        """Numbers that were there before, that come next, and that leave some out; `others`: of another shard."""
        seq = max(self.watermark + 1 - back, 1) + ahead
        last = seq + len(records) - 1 + (others or 0)
        some = () if others is None else ("LAST", last)
        options = ("SPOOL", "s", seq, *some, *(["GAP"] if gap else []))
        if seq > self.watermark + 1 and not gap:
            with pytest.raises(redis.ResponseError, match=f"^OUTOFSEQ {self.watermark + 1}$"):
                self.master.put(*records, options=options)
            return
        assert self.master.put(*records, options=options) == sum(self.model.put(record) for record in records)
        self.watermark = max(self.watermark, last)

    @rule(question=questions(), page=st.integers(1, 7))
    def match_and_fetch(self, question: dict[str, list[Any]], page: int) -> None:
        pairs = [item for name, values in question.items() for value in values for item in (name, value)]
        assert self.master.find(*pairs, count=page) == self.model.match(**question)

    @rule(question=questions(), page=st.integers(1, 7))
    def match_and_fetch_with_keys(self, question: dict[str, list[Any]], page: int) -> None:
        pairs = [item for name, values in question.items() for value in values for item in (name, value)]
        expected = self.model.match(**question)
        keys, blobs = list[tuple[int, ...]](), list[bytes]()
        if self.master.call("MATCH", "keyed", *pairs) is not None:
            while (reply := self.master.call("FETCH", "keyed", page, "RECORDS", "KEYS"))[1]:
                keys += struct.iter_unpack("<QII", reply[0])
                blobs += reply[1]
        assert keys == [(job["end"], job["job_id"], len(b"$%d\r\n%b\r\n" % (len(blob), blob)))
                        for job, blob in zip(expected, blobs, strict=True)]  # fmt: skip

    @rule(record=jobs(), page=st.integers(1, 3))
    def put_between_fetches(self, record: Job, page: int) -> None:
        """Rows that were there are given once, whatever comes in between."""
        before = self.model.match()
        if self.master.call("MATCH", "slow") is None:
            return
        first = self.master.call("FETCH", "slow", page, "RECORDS")
        self.put([record], None)
        rest = self.master.fetch("slow", page)
        given = len(first) + len(rest)
        assert len(before) - 1 <= given <= len(before) + 1
        assert rest == sorted(rest, key=completion)

    @rule(field=st.sampled_from(["user", "account", "state", "name", "qos"]), question=questions())
    def agg(self, field: str, question: dict[str, list[Any]]) -> None:
        pairs = [item for name, values in question.items() for value in values for item in (name, value)]
        assert self.master.call("AGG", "BY", field, *pairs) == grouped(self.model.match(**question), field)

    @rule(days=st.integers(-2, 2))
    def trim(self, days: int) -> None:
        before = (DAY + days) * 86400
        gone = [key for key, record in self.model.runs.items() if (record["end"] // 86400 + 1) * 86400 <= before]
        assert self.master.call("TRIM", "BEFORE", before) == len(gone)
        for key in gone:
            del self.model.runs[key]

    @rule()
    def reload(self) -> None:
        self.master.client.execute_command("DEBUG", "RELOAD")

    @rule(rewritten=st.booleans())
    def restart(self, rewritten: bool) -> None:
        client = self.master.client
        if rewritten:
            client.bgrewriteaof()
            wait_until(
                lambda: not any(client.info("persistence")[f"aof_rewrite_{n}"] for n in ("in_progress", "scheduled"))
            )
        digest = self.master.digest()
        self.disconnect()
        self.servers[0].kill()
        self.servers[0].start()
        self.connect()
        assert self.master.digest() == digest

    @rule()
    def dump_and_restore(self) -> None:
        client = self.master.client
        for key in client.keys("job:seg:*"):
            digest = client.execute_command("DEBUG", "DIGEST-VALUE", key)
            expires, payload = client.expiretime(key), client.dump(key)
            client.delete(key)
            client.restore(key, max(expires, 0) * 1000, payload, absttl=True)
            assert client.execute_command("DEBUG", "DIGEST-VALUE", key) == digest

    @rule(command=st.sampled_from(["UNLINK", "DEL"]))
    def copy_rename_and_move(self, command: str) -> None:
        """There and back under other names and in another database; what stays behind is deleted."""
        client = self.master.client
        days = [int(key.rpartition(b":")[2]) for key in client.keys("job:seg:*")]
        for day in days:
            digest = self.master.digest_of(day)
            assert client.copy(f"job:seg:{day}", f"copy:seg:{day}")
            client.rename(f"job:seg:{day}", f"other:seg:{day}")
            assert client.move(f"other:seg:{day}", 1)
            assert Store(client, "copy").digest_of(day) == digest
        assert self.master.find() == []
        assert Store(client, "copy").find() == self.model.match()
        for day in days:
            client.rename(f"copy:seg:{day}", f"job:seg:{day}")
            client.select(1)
            client.execute_command(command, f"other:seg:{day}")
            client.select(0)

    @rule(load=st.sampled_from(["disabled", "swapdb", "on-empty-db"]), diskless=st.sampled_from(["yes", "no"]))
    def replica_starts_anew(self, load: str, diskless: str) -> None:
        """With all three ways to take over what the master sends."""
        client = self.master.client
        client.config_set("repl-diskless-sync", diskless)
        before = client.info("stats")["sync_full"]
        self.replica.client.execute_command("REPLICAOF", "NO", "ONE")
        self.replica.client.config_set("repl-diskless-load", load)
        if load == "on-empty-db":
            self.replica.client.flushall()
        self.replica.put(job(999))  # what is only there must go
        self.replica.client.execute_command("REPLICAOF", "127.0.0.1", int(client.config_get("port")["port"]))
        wait_until(lambda: self.replica.client.info("replication")["master_link_status"] == "up")
        assert client.info("stats")["sync_full"] == before + 1

    @invariant()
    def watermark_is_kept(self) -> None:
        if hasattr(self, "master"):
            assert self.master.info()["watermarks"] == ([b"s", self.watermark] if self.watermark else [])

    @invariant()
    def holds_the_same_in_the_same_order(self) -> None:
        if hasattr(self, "master"):
            assert self.master.find() == self.model.match()
            assert self.master.info()["jobs"] == len(self.model.runs)

    @invariant()
    def replica_is_the_same(self) -> None:
        if hasattr(self, "master"):
            wait_until(lambda: self.replica.digest() == self.master.digest())
            assert self.replica.find() == self.model.match()


def test_model(pair: tuple[RedisServer, RedisServer]) -> None:
    Machine.servers = pair
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=14,
            stateful_step_count=18,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        ),
    )
