# SPDX-License-Identifier: MIT
"""The shipper with a real spool, a real server and the module."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from slurmjcd import protocol
from slurmjcd.config.settings import Config, RedisSection
from slurmjcd.errors import OutOfSequence, Unavailable
from slurmjcd.health.metrics import Metrics
from slurmjcd.shipping.shipper import Shipper
from slurmjcd.shipping.shippers import Shippers
from slurmjcd.spool.batch import Intake
from slurmjcd.spool.spool import Spool
from slurmjcd.store.store import Store
from slurmjcd.store.storeinfo import StoreInfo
from slurmjcd.store.storelink import StoreLink
from tests.harness import RedisServer
from tests.harness.ports import free_ports
from tests.slurmjcd.jobs import job

MakeRedis = Callable[..., RedisServer]


class Shipping:
    """A spool, and a shipper that can be stopped and started."""

    def __init__(self, spool: Spool, redis: RedisServer) -> None:
        self.spool, self.redis = spool, redis
        self.metrics = Metrics()
        self.taken = 0
        self.shippers: Shippers
        self.shipper: Shipper
        self._task: asyncio.Task[None] | None = None

    def start(self, **settings: Any) -> None:
        section = RedisSection(address=self.redis.address, batch_records=10, in_flight=4, **settings)
        self.shippers = Shippers(self.spool, Store(Config(redis=section)), section, self.metrics)
        self.shipper = self.shippers.each[0]
        self._task = asyncio.create_task(self.shippers.run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def take(self, *records: bytes) -> None:
        """Put records into the spool, in one commit each time."""
        self.taken += len(records)
        await self.spool.append([Intake("ring", self.taken, len(records), protocol.join_frames(records))], {})

    async def take_jobs(self, first: int, last: int) -> None:
        for number in range(first, last + 1):
            await self.take(job(number))

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        try:
            async with asyncio.timeout(20):
                while not condition():
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise TimeoutError(f"waited for {what}; shipper: {self.shipper.status}") from None

    async def shipped(self) -> None:
        await self.until(lambda: not self.spool.state.backlog, "an empty backlog")

    def stored(self) -> list[bytes]:
        with self.redis.client() as client:
            if client.execute_command("SLURMJC.MATCH", "job", "check") is None:
                return []
            rows: list[bytes] = []
            while page := client.execute_command("SLURMJC.FETCH", "job", "check", 1000, "RECORDS"):
                rows += page
            return rows

    def watermark(self) -> int:
        with self.redis.client() as client:
            return int(client.hget("job:spools", self.spool.state.spool_id) or 0)


@pytest.fixture
async def shipping(tmp_path: Path, make_redis: MakeRedis) -> AsyncIterator[Shipping]:
    spool = await Spool.open(tmp_path / "spool.db", max_bytes=2**30, replay_s=3600, replay_bytes=2**30)
    shipping = Shipping(spool, make_redis())
    yield shipping
    await shipping.stop()
    await spool.close()


def jobs(first: int, last: int) -> list[bytes]:
    return [job(number) for number in range(first, last + 1)]


async def test_what_is_in_the_spool_arrives_in_redis(shipping: Shipping) -> None:
    await shipping.take_jobs(1, 25)
    shipping.start()
    await shipping.shipped()
    await shipping.take_jobs(26, 60)
    await shipping.shipped()
    assert shipping.stored() == jobs(1, 60)
    assert shipping.watermark() == 60
    assert shipping.metrics.records_stored._value.get() == 60


async def test_a_spool_read_from_disk_arrives_too(shipping: Shipping) -> None:
    await shipping.take(*jobs(1, 2500))
    shipping.spool._tail.clear()
    shipping.start()
    await shipping.shipped()
    assert shipping.stored() == jobs(1, 2500)


async def test_a_new_shipper_goes_on_where_redis_is(shipping: Shipping) -> None:
    await shipping.take_jobs(1, 10)
    shipping.start()
    await shipping.shipped()
    await shipping.stop()
    await shipping.take_jobs(11, 20)
    shipping.spool.state.shipped = 3  # as after a crash, before the number was written down
    shipping.start()
    await shipping.shipped()
    assert shipping.metrics.records_shipped._value.get() == 20
    assert shipping.stored() == jobs(1, 20)


async def test_records_wait_for_a_redis_that_is_away(shipping: Shipping, caplog: pytest.LogCaptureFixture) -> None:
    shipping.redis.stop()
    with caplog.at_level(logging.WARNING):
        shipping.start()
        await shipping.take_jobs(1, 5)
        await shipping.until(lambda: "no connection" in shipping.shipper.status, "the refusal")
    assert shipping.spool.state.backlog == 5
    assert len([line for line in caplog.messages if "no connection to Redis" in line]) == 1
    shipping.redis.start()
    await shipping.shipped()
    assert shipping.stored() == jobs(1, 5)


async def test_a_redis_that_was_killed_gets_its_lost_records_again(shipping: Shipping) -> None:
    shipping.start()
    await shipping.take_jobs(1, 30)
    await shipping.shipped()
    shipping.redis.kill()
    await shipping.take_jobs(31, 40)
    shipping.redis.start()  # with nothing: it has no persistence
    await shipping.shipped()
    await shipping.until(lambda: shipping.watermark() == 40, "the watermark")
    assert shipping.stored() == jobs(1, 40)
    assert shipping.metrics.replays._value.get() == 1
    assert shipping.spool.state.lost == 0


@pytest.mark.parametrize("more", [0, 5])
async def test_flushall_is_seen_and_repaired(shipping: Shipping, monkeypatch: pytest.MonkeyPatch, more: int) -> None:
    """With traffic the refused gap tells it, without the look at the watermark."""
    monkeypatch.setattr("slurmjcd.shipping.shipper._CHECK_S", 0.1)
    shipping.start()
    await shipping.take_jobs(1, 30)
    await shipping.shipped()
    with shipping.redis.client() as client:
        client.flushall()
    await shipping.take_jobs(31, 30 + more)
    await shipping.until(lambda: shipping.watermark() == 30 + more, "the watermark")
    await shipping.shipped()
    assert shipping.stored() == jobs(1, 30 + more)


async def test_records_beyond_the_replay_window_are_counted_as_lost(
    shipping: Shipping, caplog: pytest.LogCaptureFixture
) -> None:
    shipping.start()
    await shipping.take_jobs(1, 30)
    await shipping.shipped()
    shipping.spool.replay_s = 0
    await shipping.spool.trim()
    with shipping.redis.client() as client:
        client.flushall()
    with caplog.at_level(logging.ERROR):
        await shipping.take_jobs(31, 35)
        await shipping.until(lambda: shipping.watermark() == 35, "the watermark")
    await shipping.shipped()
    assert shipping.stored() == jobs(31, 35)
    assert shipping.spool.state.lost == 30
    assert "records 1 to 30 are gone" in caplog.text


@pytest.mark.parametrize("bad", [[1], [25], [12, 13], [1, 5, 9, 14, 25]])
async def test_a_malformed_record_goes_to_quarantine_and_its_neighbours_go_on(
    shipping: Shipping, bad: list[int]
) -> None:
    records = [b"\xdc\x00\x03\x01\x02\x03" if number in bad else job(number) for number in range(1, 26)]
    await shipping.take(*records[:13])
    await shipping.take(*records[13:])
    shipping.start()
    await shipping.shipped()
    assert shipping.stored() == [job(number) for number in range(1, 26) if number not in bad]
    assert shipping.spool.state.quarantined == len(bad)
    rows = shipping.spool.database.connection.execute("SELECT seq, record FROM quarantine ORDER BY seq").fetchall()
    assert rows == [(number, b"\xdc\x00\x03\x01\x02\x03") for number in bad]
    assert shipping.watermark() == 25


async def test_a_spool_that_was_set_back_sends_all_and_numbers_on_above_redis(shipping: Shipping) -> None:
    with shipping.redis.client() as client:
        client.execute_command(
            "SLURMJC.PUT", "job", "SPOOL", shipping.spool.state.spool_id, 100, "GAP", "RECORDS", job(99)
        )
    await shipping.take_jobs(1, 5)
    shipping.start()
    await shipping.until(lambda: shipping.spool.state.last >= 100 and not shipping.spool.state.backlog, "the jump")
    await shipping.take_jobs(6, 8)
    await shipping.until(lambda: shipping.watermark() == 103, "the watermark")
    assert sorted(shipping.stored()) == sorted([*jobs(1, 8), job(99)])
    assert shipping.spool.state.lost == 0


async def test_two_daemons_with_one_spools_name_are_told_apart_from_a_loss(
    shipping: Shipping, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A state directory was copied: both ships' jobs are stored, and it is said."""
    monkeypatch.setattr("slurmjcd.shipping.shipper._CHECK_S", 0.05)
    await shipping.take_jobs(1, 5)
    shipping.start()
    await shipping.shipped()
    with contextlib.closing(sqlite3.connect(tmp_path / "spool.db")) as database:
        database.execute("VACUUM INTO ?", (str(tmp_path / "copy.db"),))
    spool = await Spool.open(tmp_path / "copy.db", max_bytes=2**30, replay_s=3600, replay_bytes=2**30)
    assert spool.state.spool_id == shipping.spool.state.spool_id
    copy = Shipping(spool, shipping.redis)
    copy.taken = 5
    try:
        copy.start()
        await copy.shipped()
        assert "another slurmjcd has" not in caplog.text
        await copy.take_jobs(101, 120)
        await copy.shipped()
        await shipping.take_jobs(6, 8)
        await shipping.shipped()
        await shipping.until(lambda: "another slurmjcd has a copy" in caplog.text, "the error")
        assert sorted(shipping.stored()) == sorted([*jobs(1, 8), *jobs(101, 120)])
    finally:
        await copy.stop()
        await spool.close()


async def test_out_of_memory_holds_and_heals(shipping: Shipping) -> None:
    with shipping.redis.client() as client:
        client.config_set("maxmemory", 1)
    shipping.start()
    await shipping.take_jobs(1, 30)
    await shipping.until(lambda: "doesn't take commands now" in shipping.shipper.status, "the refusal")
    assert shipping.spool.state.quarantined == 0
    with shipping.redis.client() as client:
        client.config_set("maxmemory", 0)
    await shipping.shipped()
    assert shipping.stored() == jobs(1, 30)


async def test_a_replica_is_readonly_and_holds(shipping: Shipping, make_redis: MakeRedis) -> None:
    shipping.start()
    await shipping.take_jobs(1, 5)
    await shipping.shipped()
    with shipping.redis.client() as client:
        client.replicaof("127.0.0.1", 1)
    await shipping.take_jobs(6, 9)
    await shipping.until(lambda: "doesn't take commands now" in shipping.shipper.status, "the refusal")
    with shipping.redis.client() as client:
        client.replicaof("NO", "ONE")
    await shipping.shipped()
    assert shipping.stored() == jobs(1, 9)


async def test_a_redis_that_hangs_holds_and_heals(shipping: Shipping) -> None:
    shipping.start(reply_s=0.3)
    await shipping.take_jobs(1, 5)
    await shipping.shipped()
    shipping.redis.process.send(signal.SIGSTOP)
    await shipping.take_jobs(6, 30)
    await shipping.until(lambda: not shipping.shipper.up, "the loss")
    shipping.redis.process.send(signal.SIGCONT)
    await shipping.shipped()
    assert shipping.stored() == jobs(1, 30)


async def test_questions_are_unavailable_until_lost_records_are_back(
    shipping: Shipping, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipping.start()
    await shipping.take_jobs(1, 30)
    await shipping.shipped()
    assert shipping.shipper.why_incomplete() is None
    reasons: list[str | None] = []
    real = Shipper._put_was_taken

    def look(self: Shipper, sent: Any, reply: object) -> None:
        reasons.append(self.why_incomplete())
        real(self, sent, reply)

    monkeypatch.setattr(Shipper, "_put_was_taken", look)
    with shipping.redis.client() as client:
        client.flushall()
    await shipping.take_jobs(31, 31)
    await shipping.until(lambda: shipping.watermark() == 31, "the watermark")
    assert reasons[0] == "Redis lost jobs and gets them again, 30 records are to come"
    assert shipping.shipper.why_incomplete() is None


async def test_the_rights_that_are_documented_are_enough(
    tmp_path: Path, rundir: Path, shipping: Shipping, make_redis: MakeRedis
) -> None:
    acl = rundir / "users.acl"
    commands = "+slurmjc.match +slurmjc.fetch +slurmjc.get +slurmjc.agg +slurmjc.info +ping"
    acl.write_text(
        "user default off\n"
        f"user w on >{'w' * 10} resetchannels -@all +slurmjc.put {commands} +wait %RW~job\n"
        f"user r on >{'r' * 10} resetchannels -@all {commands} %R~job\n"
    )
    redis = make_redis("secured", options={"aclfile": str(acl)}, ready_without_login=True)
    secrets = {}
    for name in ("w", "r"):
        secrets[name] = tmp_path / name
        secrets[name].write_text(name * 10 + "\n")
        secrets[name].chmod(0o600)
    shipping.redis = redis
    settings = {"user": "w", "password_file": secrets["w"], "reader_user": "r", "reader_password_file": secrets["r"]}
    shipping.start(**settings)
    await shipping.take_jobs(1, 3)
    await shipping.shipped()
    store = Store(Config(redis=RedisSection(address=redis.address, **settings)))
    async with store.reader() as link:
        assert await link.call(b"SLURMJC.MATCH", b"job", b"q") is not None
        assert len(await link.call(b"SLURMJC.FETCH", b"job", b"q", b"10", b"RECORDS")) == 3
        with pytest.raises(Unavailable, match="no permissions"):
            await link.call(b"SLURMJC.PUT", b"job", b"RECORDS", b"")
    await store.close()


async def test_a_wrong_password_is_held_with_one_clear_line(
    tmp_path: Path, rundir: Path, shipping: Shipping, make_redis: MakeRedis
) -> None:
    acl = rundir / "users.acl"
    acl.write_text("user default off\nuser w on >right -@all +@all ~*\n")
    shipping.redis = make_redis("secured", options={"aclfile": str(acl)}, ready_without_login=True)
    secret = tmp_path / "secret"
    secret.write_text("wrong")
    secret.chmod(0o600)
    shipping.start(user="w", password_file=secret)
    await shipping.until(lambda: "invalid username-password pair" in shipping.shipper.status, "the refusal")
    await shipping.stop()
    shipping.start()
    await shipping.until(lambda: "Authentication required" in shipping.shipper.status, "the refusal")


async def test_a_server_without_the_module_is_refused_in_one_line(
    tmp_path: Path, shipping: Shipping, make_redis: MakeRedis
) -> None:
    shipping.redis = make_redis("bare", module=None)
    shipping.start()
    await shipping.until(lambda: "lacks the module: add 'loadmodule" in shipping.shipper.status, "the refusal")
    assert "\n" not in shipping.shipper.status


async def test_durability_aof_counts_what_is_on_disk_where_the_server_can_say_so(
    shipping: Shipping, make_redis: MakeRedis
) -> None:
    shipping.redis = make_redis("aof", options={"appendonly": "yes"})
    shipping.start(durability="aof")
    await shipping.take_jobs(1, 30)
    with shipping.redis.client() as client:
        version = tuple(int(part) for part in client.info("server")["redis_version"].split(".")[:2])
    if version < (7, 2):
        await shipping.until(lambda: "redis.durability = 'aof' needs WAITAOF" in shipping.shipper.status, "the refusal")
        return
    await shipping.shipped()
    shipping.redis.kill()
    shipping.redis.start()
    assert shipping.stored() == jobs(1, 30)


async def test_durability_aof_is_refused_without_an_append_only_file(shipping: Shipping) -> None:
    shipping.start(durability="aof")
    await shipping.until(lambda: "redis.durability = 'aof' needs" in shipping.shipper.status, "the refusal")


@pytest.mark.parametrize("answer", [2, 3, 10**20, 0, -3])
async def test_a_sequence_number_that_cant_be_is_not_believed(
    shipping: Shipping, monkeypatch: pytest.MonkeyPatch, answer: int, caplog: pytest.LogCaptureFixture
) -> None:
    shipping.start()
    await shipping.take_jobs(1, 1)
    await shipping.shipped()
    wrong = [OutOfSequence(answer)]
    real = StoreLink.receive

    async def receive(self: StoreLink, **options: Any) -> Any:
        reply = await real(self, **options)
        if isinstance(reply, int) and wrong:
            raise wrong.pop()
        return reply

    monkeypatch.setattr(StoreLink, "receive", receive)
    await shipping.take_jobs(2, 9)
    await shipping.shipped()
    assert shipping.stored() == jobs(1, 9)
    assert shipping.spool.state.lost == 0
    assert f"says that it expects {answer}: that can't be" in caplog.text


async def test_durability_replicas_counts_records_as_shipped_when_a_replica_has_them(
    shipping: Shipping, make_redis: MakeRedis
) -> None:
    (port,) = free_ports(1)
    with shipping.redis.client() as client:
        client.config_set("port", port)
    shipping.start(durability="replicas")
    await shipping.take_jobs(1, 12)
    await shipping.until(lambda: shipping.watermark() == 12, "the records")
    await shipping.until(lambda: "not yet durable" in shipping.shipper.status, "the wait to end without a replica")
    assert shipping.spool.state.shipped == 0
    replica = make_redis("replica", options={"replicaof": f"127.0.0.1 {port}"})
    await shipping.shipped()
    with replica.client() as client:
        assert client.hget("job:spools", shipping.spool.state.spool_id) == b"12"


async def test_a_module_that_knows_no_events_still_gets_the_jobs(
    shipping: Shipping, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of before: its INFO has no field of them, and its PUT would be refused."""
    real = StoreLink.open

    async def older(link: StoreLink) -> StoreInfo:
        info = await real(link)
        return StoreInfo({key: value for key, value in info.fields.items() if "events" not in key}, info.watermarks)

    monkeypatch.setattr(StoreLink, "open", older)
    shipping.start()
    await shipping.take_jobs(1, 3)
    await shipping.shipped()
    assert shipping.stored() == jobs(1, 3)
    with shipping.redis.client() as client:
        assert not client.exists("job:events")
