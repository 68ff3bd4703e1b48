# SPDX-License-Identifier: MIT
"""Who has a slot, with a real cluster of one or two masters; the faults of a whole one are in tests/faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from slurmjcd import protocol
from slurmjcd.config.settings import Config, QuerySection, RedisSection
from slurmjcd.errors import Moved, Unavailable
from slurmjcd.store.shards import shard_prefixes, slot_of
from slurmjcd.store.store import Store
from tests.harness import RedisServer, wait_until
from tests.harness.cluster import ClusterSite
from tests.harness.ports import free_ports

MakeRedis = Callable[..., RedisServer]
PREFIX = shard_prefixes(b"job", 2)[0]


def one_node(make_redis: MakeRedis, **options: str) -> int:
    """A cluster of one server that has all slots; its port."""
    port, bus = free_ports(2)
    server = make_redis(
        options={"port": port, "cluster-enabled": "yes", "cluster-port": bus, "bind": "127.0.0.1", **options}
    )
    with server.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_ok(client)
        client.set("job:shards", 2)
    return port


def wait_ok(client: Any) -> None:
    wait_until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok", what="the cluster")


async def why_refused(store: Store) -> Unavailable:
    """What is said to who wants to write to the first shard."""
    link = store.shards[0].writer()
    try:
        with pytest.raises(Unavailable) as refused:
            await link.open()
        return refused.value
    finally:
        await link.close()


@asynccontextmanager
async def opened(address: str, *, timeout_s: float = 10.0, **settings: Any) -> AsyncIterator[Store]:
    redis = RedisSection(address=address, shards=2, reply_s=1.0, **settings)
    store = Store(Config(redis=redis, query=QuerySection(timeout_s=timeout_s)))
    try:
        yield store
    finally:
        await store.close()


async def test_a_node_that_says_its_port_alone_is_reached_where_it_was_found(make_redis: MakeRedis) -> None:
    """As those behind one address for all; what CLUSTER SLOTS says of the host is nil then."""
    port = one_node(make_redis, **{"cluster-preferred-endpoint-type": "unknown-endpoint"})
    async with opened(f"redis+cluster://127.0.0.1:{port}") as store, store.shards[0].reader() as link:
        assert link.address == f"127.0.0.1:{port}"


async def test_a_node_is_reached_at_the_name_it_announces(make_redis: MakeRedis) -> None:
    port = one_node(
        make_redis, **{"cluster-preferred-endpoint-type": "hostname", "cluster-announce-hostname": "no.invalid"}
    )
    async with opened(f"redis+cluster://127.0.0.1:{port}") as store:
        assert f"no connection to Redis at no.invalid:{port}: " in str(await why_refused(store))


async def test_an_announced_address_that_leads_nowhere_is_named(make_redis: MakeRedis) -> None:
    (dead,) = free_ports(1)
    port = one_node(make_redis, **{"cluster-announce-port": str(dead)})
    async with opened(f"redis+cluster://127.0.0.1:{port}") as store:
        assert f"no connection to Redis at 127.0.0.1:{dead}: " in str(await why_refused(store))


async def test_a_server_that_is_no_cluster_is_named(make_redis: MakeRedis) -> None:
    (port,) = free_ports(1)
    make_redis(options={"port": port, "bind": "127.0.0.1"})
    async with opened(f"redis+cluster://127.0.0.1:{port}") as store:
        assert "cluster support disabled" in str(await why_refused(store))


@pytest.mark.parametrize("some", [False, True])
async def test_a_cluster_without_the_slot_is_named_and_found_once_it_has_it(
    make_redis: MakeRedis, monkeypatch: pytest.MonkeyPatch, some: bool
) -> None:
    monkeypatch.setattr("slurmjcd.store.cluster._KEPT_S", 0.0)
    port, bus = free_ports(2)
    server = make_redis(options={"port": port, "cluster-enabled": "yes", "cluster-port": bus, "bind": "127.0.0.1"})
    async with opened(f"redis+cluster://127.0.0.1:{port}") as store:
        with server.client() as client:
            if some:
                client.execute_command("CLUSTER", "ADDSLOTS", 16383)
            told = "the cluster says of no server that it has slot" if some else "no node of the cluster says"
            assert told in str(await why_refused(store))
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383 - some)
            wait_ok(client)
            client.set("job:shards", 2)
        async with store.shards[0].reader() as link:
            assert link.address == f"127.0.0.1:{port}"


async def test_a_user_who_may_not_ask_for_slots_is_told_so(make_redis: MakeRedis, rundir: Path, tmp_path: Path) -> None:
    acl = rundir / "users.acl"
    acl.write_text("user default on nopass +@all ~*\nuser r on >secret -@all +slurmjc.info %R~{job-*}\n")
    port = one_node(make_redis, aclfile=str(acl))
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    async with opened(f"redis+cluster://127.0.0.1:{port}", user="r", password_file=secret) as store:
        assert "cluster|slots" in str(await why_refused(store))


@pytest.fixture(scope="module")
def site(session_rundir: Path) -> Any:
    site = ClusterSite(session_rundir / "cluster", masters=2, replicas=False)
    site.start()
    with site.client(site.owner_of("job:shards")) as client:
        client.set("job:shards", 2)
    yield site
    site.stop()


async def test_a_slot_that_has_moved_is_found_again(site: ClusterSite) -> None:
    slot = slot_of(PREFIX)
    home = site.owner(slot)
    async with opened(site.address) as store:
        async with store.shards[0].reader() as link:
            before = link.address
        await asyncio.to_thread(site.move_slots, [slot], 1 - home)
        with pytest.raises(Moved, match="MOVED"):
            async with store.shards[0].reader() as link:
                await link.call(protocol.INFO, PREFIX)
        async with store.shards[0].reader() as link:
            assert link.address != before
            assert (await link.info()).fields["jobs"] == 0
        await asyncio.to_thread(site.move_slots, [slot], home)


async def test_a_slot_on_its_way_is_waited_for_and_not_followed(site: ClusterSite) -> None:
    slot = slot_of(PREFIX)
    home = site.owner(slot)
    async with opened(site.address) as store:
        site.begin_move(slot, 1 - home)
        refused = await why_refused(store)
        assert isinstance(refused, Moved)
        assert "ASK" in str(refused)

        async def ask() -> str:
            async with store.shards[0].reader() as link:
                return link.address

        asking = asyncio.create_task(ask())
        await asyncio.wait([asking], timeout=0.5)
        assert not asking.done()
        await asyncio.to_thread(site.end_move, slot, 1 - home)
        assert await asking == f"127.0.0.1:{site.ports[1 - home]}"
        await asyncio.to_thread(site.move_slots, [slot], home)


async def test_a_slot_that_stays_on_its_way_is_an_error_in_time(site: ClusterSite) -> None:
    slot = slot_of(PREFIX)
    home = site.owner(slot)
    async with opened(site.address, timeout_s=1.0) as store:
        site.begin_move(slot, 1 - home)
        with pytest.raises(Moved, match="ASK"):
            await asyncio.wait_for(store.shards[0].reader().__aenter__(), 20)
        await asyncio.to_thread(site.end_move, slot, 1 - home)
        await asyncio.to_thread(site.move_slots, [slot], home)
