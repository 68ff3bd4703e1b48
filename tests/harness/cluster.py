# SPDX-License-Identifier: MIT
"""A Redis or Valkey Cluster on loopback: masters that share the 16384 slots, a replica for each, all with our module.

Slots move as an administrator's `redis-cli --cluster reshard` moves them (SETSLOT, MIGRATE), but in steps, so that a
test can look while a slot is between two masters.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from tests.harness.ports import free_ports
from tests.harness.redis_server import SERVER, RedisServer
from tests.harness.waiting import scaled, wait_until

SLOTS: Final = 16384


def slot_of(key: str) -> int:
    """The slot in which a key lies, by its hash tag if it has one."""
    return int(key_slot(key.encode()))


@dataclass
class _View:
    """What a node says of itself in CLUSTER NODES."""

    master: bool
    epoch: int
    slots: list[range]
    master_id: str

    def owns(self, slot: int) -> bool:
        return self.master and any(slot in part for part in self.slots)


class ClusterSite:
    """Servers that form a cluster: nodes[:masters] begin as its masters, node `masters` + n replicates node n.

    Args:
        options: of every server, as in redis.conf.
        node_timeout_ms: how long a node may be silent before the others count it as down and a replica takes over.
    """

    def __init__(
        self,
        directory: Path,
        *,
        masters: int = 3,
        replicas: bool = True,
        options: Mapping[str, str | int] | None = None,
        node_timeout_ms: int = 2000,
        server: str = SERVER,
    ) -> None:
        count = 2 * masters if replicas else masters
        ports = free_ports(2 * count)
        self.ports, bus = ports[:count], ports[count:]
        self.masters = masters
        self.nodes = [
            RedisServer(
                directory / f"node{number}",
                options={
                    "port": port,
                    "bind": "127.0.0.1",
                    "cluster-enabled": "yes",
                    # the usual one, port + 10000, may be none
                    "cluster-port": bus[number],
                    "cluster-config-file": "nodes.conf",
                    "cluster-node-timeout": node_timeout_ms,
                    # a replica that heard nothing for long may take over too: which node dies is the test's choice
                    "cluster-replica-validity-factor": 0,
                    "cluster-allow-replica-migration": "no",
                    "repl-diskless-sync-delay": 0,
                    **(options or {}),
                },
                server=server,
            )
            for number, port in enumerate(self.ports)
        ]
        self._bus = bus
        self._ids: dict[str, int] = {}
        self._paused: set[int] = set()

    @property
    def address(self) -> str:
        """As slurmjcd's redis.address has it."""
        return f"redis+cluster://{','.join(f'127.0.0.1:{port}' for port in self.ports)}"

    def start(self) -> None:
        """Start the servers, make them one cluster and wait until all agree that it is."""
        for node in self.nodes:
            node.start()
        self.learn_ids()
        for number in range(len(self.nodes)):
            self.ask(number, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for number in range(self.masters):
            first, last = (SLOTS * edge // self.masters for edge in (number, number + 1))
            self.ask(number, "CLUSTER", "ADDSLOTSRANGE", first, last - 1)
        for port, bus in zip(self.ports[1:], self._bus[1:], strict=True):
            self.ask(0, "CLUSTER", "MEET", "127.0.0.1", port, bus)
        for number in range(self.masters, len(self.nodes)):
            follows = partial(self._follows, number, self._id(number - self.masters))
            wait_until(follows, what="a node to know its master")
        self.wait_ok()
        # a Valkey that is stopped before that leaves a nodes.conf with which it doesn't start any more
        wait_until(self._shards_agree, what="the nodes to know of each other's shards", timeout_s=60)

    def learn_ids(self) -> None:
        """Ask each node for its id, as `start` does; for who makes the cluster some other way."""
        self._ids = {str(self.ask(number, "CLUSTER", "MYID")): number for number in range(len(self.nodes))}

    def stop(self) -> None:
        for number in list(self._paused):
            self.resume(number)
        for node in self.nodes:
            node.stop()

    # --- asking -------------------------------------------------------------

    def client(self, number: int, **kwargs: Any) -> Any:
        """A redis.Redis of one node, that tries once and follows no redirection."""
        return self.nodes[number].client(**{"retry": Retry(NoBackoff(), 0), **kwargs})

    def ask(self, number: int, *words: str | int) -> Any:
        """What a node replies; text, not bytes."""
        with self.client(number, decode_responses=True, socket_timeout=scaled(10)) as client:
            return client.execute_command(*words)

    def call(self, prefix: str, command: str, *words: Any) -> Any:
        """SLURMJC.<command> <prefix> <words>, asked of the master that owns the prefix' slot."""
        with self.client(self.owner(slot_of(prefix))) as client:
            return client.execute_command(f"SLURMJC.{command}", prefix, *words)

    def cluster_client(self, **kwargs: Any) -> Any:
        """redis-py's client of the whole cluster."""
        return redis.RedisCluster(host="127.0.0.1", port=self.ports[self._up()[0]], protocol=2, **kwargs)

    def cli(self, *words: str | int, answer: str = "") -> str:
        """What `redis-cli --cluster <words>` prints; `answer` is what it reads."""
        done = subprocess.run(
            ["redis-cli", "--cluster", *map(str, words)],
            capture_output=True,
            text=True,
            timeout=scaled(60),
            check=False,
            input=answer,
        )
        if done.returncode:
            raise RuntimeError(f"redis-cli --cluster {words[0]} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    # --- who is what --------------------------------------------------------

    def owner(self, slot: int) -> int:
        """Number of the node that is the master of a slot, and says so itself.

        Raises:
            LookupError: none of those that answer.
        """
        views = {number: self._view(number) for number in self._up()}
        owners = [number for number, view in views.items() if view.owns(slot)]
        if not owners:
            raise LookupError(f"no node that is up has slot {slot}")
        return max(owners, key=lambda number: views[number].epoch)

    def owner_of(self, key: str) -> int:
        return self.owner(slot_of(key))

    def know_each_other(self, numbers: Collection[int]) -> bool:
        """Has each of these nodes been told of so many?"""
        said = f"cluster_known_nodes:{len(numbers)}\r\n"
        return all(said in str(self.ask_raw(number, "CLUSTER", "INFO")) for number in numbers)

    def all_agree(self, number: int) -> bool:
        """Does `redis-cli --cluster check` find that the nodes it is told of agree? It ends with 1 while they don't."""
        try:
            return "Nodes don't agree" not in self.cli("check", f"127.0.0.1:{self.ports[number]}")
        except RuntimeError as exc:
            if "Nodes don't agree" not in str(exc):
                raise
            return False

    def is_master(self, number: int) -> bool:
        return self._view(number).master

    def replicas_of(self, number: int) -> list[int]:
        """The nodes that say they replicate that one."""
        return [other for other in self._up() if self._view(other).master_id == self._id(number)]

    def ok(self) -> bool:
        """Do all that are up agree on a master for each slot, and do their replicas follow?"""
        try:
            maps = set()
            for number in self._up():
                if "cluster_state:ok" not in self.ask(number, "CLUSTER", "INFO"):
                    return False
                with self.client(number) as client:
                    info = client.info("replication")
                if info["role"] == "slave" and info["master_link_status"] != "up":
                    return False
                maps.add(self._slot_map(number))
            up = {self.ports[number] for number in self._up()}
            return len(maps) == 1 and all(port in up for _first, _last, port in next(iter(maps)))
        except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError):
            return False

    def wait_ok(self, timeout_s: float = 60.0) -> None:
        wait_until(self.ok, what=self._state, timeout_s=timeout_s, every_s=0.05)

    # --- faults -------------------------------------------------------------

    def kill(self, number: int) -> None:
        """SIGKILL; start it again with nodes[number].start()."""
        self.nodes[number].kill()
        self._paused.discard(number)

    def pause(self, number: int) -> None:
        """SIGSTOP: its connections stay, nothing answers."""
        self.nodes[number].process.send(signal.SIGSTOP)
        self._paused.add(number)

    def resume(self, number: int) -> None:
        self.nodes[number].process.send(signal.SIGCONT)
        self._paused.discard(number)

    def restart(self, number: int) -> None:
        self.nodes[number].restart()

    def wait_failover(self, slot: int, before: int) -> int:
        """Wait until another node than `before` is the slot's master; returns its number."""

        def over() -> list[int]:
            try:
                now = self.owner(slot)
            except (LookupError, redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError):
                return []
            # a list, because node 0 is false
            return [now] if now != before else []

        return wait_until(over, what=lambda: f"a failover; {self._state()}", timeout_s=60)[0]

    def fail_over(self, replica: int) -> None:
        """Make a replica the master, its master being well and agreeing, as before an update; returns when it is.

        A cluster drops such a wish after five seconds, without a word to him who had it: it is said again then.
        """
        asked = 0.0

        def over() -> bool:
            nonlocal asked
            if self.is_master(replica):
                return True
            if time.monotonic() - asked > scaled(6):
                asked = time.monotonic()
                self.ask(replica, "CLUSTER", "FAILOVER")
            return False

        wait_until(over, what="the replica to be the master", timeout_s=60)

    # --- slots that move ----------------------------------------------------

    def begin_move(self, slot: int, to: int) -> int:
        """The slot is between two masters from now on: MIGRATING at one, IMPORTING at the other.

        Returns:
            the number of the master that has it.
        """
        source = self.owner(slot)
        self.ask(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", self._id(source))
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self._id(to))
        return source

    def move_keys(self, slot: int, to: int, *, at_most: int = 1 << 30, replace: bool = False) -> int:
        """MIGRATE the slot's keys, those that its master still has; returns how many went.

        Args:
            replace: also those that the target has already, from a master that has died since.
        """
        source, moved = self.owner(slot), 0
        while moved < at_most:
            keys = self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, min(10, at_most - moved))
            if not keys:
                break
            port, wait_ms = self.ports[to], int(scaled(10_000))
            self.ask(
                source, "MIGRATE", "127.0.0.1", port, "", 0, wait_ms, *(["REPLACE"] if replace else []), "KEYS", *keys
            )
            moved += len(keys)
        return moved

    def end_move(self, slot: int, to: int) -> None:
        """The slot is the target's; returns when it knows that. Others hear of it later: see wait_ok."""
        # the target first: were it the source, there would be a moment in which nobody has the slot
        source = self.owner(slot)
        self.ask(to, "CLUSTER", "SETSLOT", slot, "NODE", self._id(to))
        self.ask(source, "CLUSTER", "SETSLOT", slot, "NODE", self._id(to))
        wait_until(lambda: self.owner(slot) == to, what=f"slot {slot} to be at its new master")

    def move_slots(self, slots: Iterable[int], to: int, *, pause_s: float = 0.0) -> None:
        """Move slots with their keys to another master, one after the other.

        Args:
            pause_s: how long each is left between the two masters, so that some request surely finds it there.
        """
        for slot in slots:
            if self.owner(slot) == to:
                continue
            self.begin_move(slot, to)
            time.sleep(pause_s)
            # what was written before the source had no key left is moved in the next round
            while self.move_keys(slot, to):
                pass
            self.end_move(slot, to)

    def move_prefix(self, prefix: str, to: int, *, pause_s: float = 0.0) -> None:
        """Move the slot in which a prefix with a hash tag keeps everything."""
        self.move_slots([slot_of(prefix)], to, pause_s=pause_s)

    def reshard(self, count: int, *, source: int, to: int) -> str:
        """`redis-cli --cluster reshard`: that many slots, the ones it picks."""
        where = f"127.0.0.1:{self.ports[source]}"
        ids = ("--cluster-from", self._id(source), "--cluster-to", self._id(to))
        return self.cli("reshard", where, *ids, "--cluster-slots", count, "--cluster-yes")

    # --- inside -------------------------------------------------------------

    def _shards_agree(self) -> bool:
        for number in self._up():
            with self.client(number) as client:
                client.response_callbacks.clear()
                if len(client.execute_command("CLUSTER", "SHARDS")) != self.masters:
                    return False
        return True

    def _up(self) -> list[int]:
        return [n for n, node in enumerate(self.nodes) if node.process.running and n not in self._paused]

    def _id(self, number: int) -> str:
        return next(name for name, n in self._ids.items() if n == number)

    def _follows(self, number: int, master: str) -> bool:
        try:
            self.ask(number, "CLUSTER", "REPLICATE", master)
        except redis.ResponseError as exc:  # Unknown node, as long as the gossip has not told it
            if "Unknown node" not in str(exc):
                raise
            return False
        return True

    def _view(self, number: int) -> _View:
        for line in str(self.ask_raw(number, "CLUSTER", "NODES")).splitlines():
            _id, _where, flags, master_id, _ping, _pong, epoch, _link, *slots = line.split()
            if "myself" not in flags:
                continue
            # [slot->-id] and [slot-<-id] are those that move
            ranges = [part.split("-") for part in slots if not part.startswith("[")]
            parts = [range(int(part[0]), int(part[-1]) + 1) for part in ranges]
            return _View("master" in flags, int(epoch), parts, master_id)
        raise RuntimeError(f"node {number} does not know itself")

    def ask_raw(self, number: int, *words: str | int) -> str:
        """What a node replies as text that redis-py has not taken apart."""
        with self.client(number, socket_timeout=scaled(10)) as client:
            client.response_callbacks.clear()
            return bytes(client.execute_command(*words)).decode()

    def _slot_map(self, number: int) -> tuple[tuple[int, int, int], ...]:
        with self.client(number) as client:
            client.response_callbacks.clear()
            rows = client.execute_command("CLUSTER", "SLOTS")
        return tuple(sorted((int(first), int(last), int(master[1])) for first, last, master, *_ in rows))

    def _state(self) -> str:
        lines = ["the cluster to be ok"]
        for number in self._up():
            try:
                lines.append(f"node {number} ({self.ports[number]}):\n{self.ask_raw(number, 'CLUSTER', 'NODES')}")
            except redis.RedisError as exc:
                lines.append(f"node {number}: {exc}")
        return "\n".join(lines)
