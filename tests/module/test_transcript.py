# SPDX-License-Identifier: MIT
"""slurm-redis 0.1.3's client against the module, command by command in its order, and what its client makes of replies.

Where each fact is from (slurm-redis v0.1.3, read as facts; the same was seen with MONITOR while the unmodified plugin
ran in slurmctld and sacct of Slurm 19.05.5 against this module, with both of its time formats):

- the order of the commands, what is in the transaction, that replies in it are only looked at for errors, that FETCH is
  repeated until its reply is no array or an empty one: slurm/jobcomp/jobcomp_redis.c, slurm_jobcomp_log_record and
  slurm_jobcomp_get_jobs; JobCompLoc as the prefix: slurm_jobcomp_set_location
- the fields, how each is written, which ones are left out: jobcomp_redis_format_fields in jobcomp_redis_format.c
- what the client does with each field of a reply, and that it ends with SIGABRT or SIGSEGV when a number, a time or the
  limit is nil: jobcomp_redis_format_job there, sr_strtoul in common/stringto.c (assert), mk_time in iso8601_format.c
- names and order of the 28 fields: common/redis_fields.c
- replies of the commands: redis/jobcomp/jobcomp_command.c
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.harness import RedisServer
from tests.harness.paths import ROOT
from tests.module.conftest import Store
from tests.module.records import DAY, NOON, job
from tests.module.test_upstream import FIELDS, job_hash, when

# what the client reads as a number or looks into without a look whether it is there
NEVER_NIL = {
    "_tmf", "JobID", "Start", "End", "Elapsed", "UID", "GID", "NNodes", "NCPUs", "State", "TimeLimit", "Submit",
    "Eligible",
}  # fmt: skip
# members of slurmdb_job_cond_t that become sets, in the order in which they are sent
SETS = ("gid", "job", "jnm", "prt", "stt", "uid")


class Client:
    """The plugin's half: each command is sent and each reply read where it does so. Its replies stay as they came."""

    def __init__(
        self, server: RedisServer, *, tmf: int, ttl: int = -1, loc: str | None = None, **login: str
    ) -> None:  # fmt: skip
        self._client = server.client(**login)
        self._link: Any = self._client.connection_pool.get_connection()
        self.tmf, self.ttl = tmf, ttl
        self.prefix = f"{loc}:job" if loc else "job"

    def close(self) -> None:
        self._client.connection_pool.release(self._link)
        self._client.close()

    def _say(self, *words: Any) -> None:
        self._link.send_packed_command(self._link.pack_command(*words))

    def _hear(self) -> Any:
        return self._link.read_response()

    def _command(self, *words: Any) -> Any:
        self._say(*words)
        return self._hear()

    def _transaction(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Piped; EXEC only when all are queued."""
        for words in (("MULTI",), *commands):
            self._say(*words)
        assert [self._hear() for _ in range(len(commands) + 1)] == [b"OK"] + [b"QUEUED"] * len(commands)
        replies: list[Any] = self._command("EXEC")
        return replies

    def job_ends(self, fields: dict[str, str]) -> Any:
        """Reply of SLURMJC.INDEX."""
        assert self._command("PING") == b"PONG"
        key = f"{self.prefix}:{fields['JobID']}"
        commands: list[tuple[Any, ...]] = [("HSET", key, name, fields[name]) for name in FIELDS if name in fields]
        if self.ttl > 0:
            commands.append(("EXPIRE", key, self.ttl))
        return self._transaction(*commands, ("SLURMJC.INDEX", self.prefix, fields["JobID"]))[-1]

    def sacct(
        self, start: int = 0, end: int | None = None, nodes: tuple[int, int] = (0, 0), count: int = 500,
        pause: Any = None, **sets: list[Any],
    ) -> list[list[bytes | None]]:  # fmt: skip
        """The rows, as FETCH has them. A window has an end always: without -E it is now."""
        assert self._command("PING") == b"PONG"
        query = str(uuid4())
        key = f"{self.prefix}:qry:{query}"
        commands: list[tuple[Any, ...]] = [
            (
                "HSET", key, "_abi", 0, "_tmf", self.tmf, "Start", when(start, self.tmf),
                "End", when(int(time.time()) if end is None else end, self.tmf),
                "NNodesMin", nodes[0], "NNodesMax", nodes[1],
            ),
            ("EXPIRE", key, 60),
        ]  # fmt: skip
        for name in SETS:
            if name in sets:
                commands += [("SADD", f"{key}:{name}", value) for value in sets[name]]
                commands.append(("EXPIRE", f"{key}:{name}", 60))
        self._transaction(*commands)
        found = self._command("SLURMJC.MATCH", self.prefix, query)
        if not isinstance(found, bytes):
            assert found is None
            return []
        assert found == f"{self.prefix}:mat:{query}".encode()
        rows: list[list[bytes | None]] = []
        while isinstance(page := self._command("SLURMJC.FETCH", self.prefix, query, count), list) and page:
            rows += page
            if pause is not None:
                pause(query)
        assert page == []
        return rows


@pytest.fixture(params=[0, 1])
def client(request: pytest.FixtureRequest, server: RedisServer, store: Store) -> Iterator[Client]:
    one = Client(server, tmf=request.param)
    yield one
    one.close()


def text(row: list[bytes | None]) -> dict[str, str]:
    """The fields that are there; those that the client can't do without must be."""
    assert len(row) == len(FIELDS)
    found = {name: value.decode() for name, value in zip(FIELDS, row, strict=True) if value is not None}
    assert found.keys() >= NEVER_NIL
    return found


FULL = {
    "ResvName": "maint", "QOS": "normal", "WCKey": "proj", "DerivedEC": "1:0", "EC": "0:9", "TimeLimit": "I",
}  # fmt: skip


def test_all_28_fields_come_back_as_they_were_written(client: Client, store: Store) -> None:
    fields = job_hash(42, client.tmf, **FULL)
    assert fields.keys() == set(FIELDS)
    assert client.job_ends(fields) == f"job:seg:{DAY}".encode()
    assert [text(row) for row in client.sacct()] == [fields]


@pytest.mark.parametrize("absent", ["NodeList", "WorkDir", "ResvName", "ReqGRES", "Account", "QOS", "WCKey", "Cluster"])
def test_a_field_that_was_not_written_is_nil(client: Client, absent: str) -> None:
    fields = job_hash(42, client.tmf, **FULL)
    del fields[absent]
    client.job_ends(fields)
    if absent == "NodeList":  # the job never ran
        fields |= {"Start": when(0, client.tmf), "Elapsed": "0"}
    assert [text(row) for row in client.sacct(job=[42])] == [fields]


@pytest.mark.parametrize("absent", ["Submit", "Eligible"])
def test_a_time_that_never_was_is_no_crash_of_the_client(client: Client, absent: str) -> None:
    """Upstream's own module says nil, and mk_time(NULL) ends sacct: seen with a job that was cancelled while held."""
    fields = job_hash(42, client.tmf)
    del fields[absent]
    client.job_ends(fields)
    assert [text(row)[absent] for row in client.sacct(job=[42])] == [when(0, client.tmf)]


@pytest.mark.parametrize(
    ("written", "limit", "status"),
    [("60", "60", "3:0"), ("I", "I", "0:9"), ("P", "P", None)],
)
def test_limits_and_exit_codes(client: Client, written: str, limit: str, status: str | None) -> None:
    fields = job_hash(42, client.tmf, TimeLimit=written)
    del fields["EC"]
    client.job_ends(fields if status is None else {**fields, "EC": status})
    (row,) = map(text, client.sacct())
    assert (row["TimeLimit"], row.get("EC")) == (limit, status)


def test_records_of_our_own_plugin_have_what_the_client_reads(client: Client, store: Store) -> None:
    """The client of before beside the plugin of now: unknown counts and limits, no name, no times."""
    store.put(
        job(1, start=0, eligible=0, node_count=None, cpu_count=None, nodes=None, time_limit=None, name=None, state=4),
        job(2, state=1, extra={"state_flags": 1 << 13}),
    )
    first, second = map(text, client.sacct(job=[1, 2]))
    assert (first["NNodes"], first["NCPUs"], first["TimeLimit"], first["JobName"]) == ("0", "0", "", "allocation")
    assert (first["Start"], first["Eligible"]) == (when(0, client.tmf),) * 2
    assert second["State"] == str(1 << 13)


def test_a_resized_job_keeps_its_state(client: Client, store: Store) -> None:
    """Of which upstream has the flag JOB_RESIZING alone."""
    resized = job_hash(7, client.tmf, State="8192", End=when(NOON - 10, client.tmf), Elapsed="40")
    last = job_hash(7, client.tmf, Start=when(NOON - 10, client.tmf), Elapsed="10")
    for fields in (resized, last):
        client.job_ends(fields)
    assert [text(row) for row in client.sacct()] == [resized, last]
    assert [(row["state"], row["extra"].get("state_flags")) for row in store.find()] == [(1, 8192), (5, None)]


def test_nothing_of_a_job_stays_for_the_next_run_of_its_id(client: Client, store: Store) -> None:
    """Upstream: the second run of a job that had failed is COMPLETED with the exit code of the first."""
    failed = job_hash(7, client.tmf, EC="1:0", DerivedEC="1:0", State="5")
    good = job_hash(7, client.tmf, State="3", Submit=when(NOON - 55, client.tmf), Start=when(NOON - 20, client.tmf))
    good |= {"Elapsed": "20"}
    del good["EC"], good["ReqGRES"]
    for fields in (failed, good):
        client.job_ends(fields)
    assert [text(row) for row in client.sacct()] == [failed, good]
    assert store.client.keys("job:7") == []


def test_expiry(server: RedisServer, store: Store) -> None:
    """Upstream's compiled-in TTL is that of the row; the whole day goes a day later at most."""
    one = Client(server, tmf=1, ttl=3600)
    now = int(time.time())
    one.job_ends(job_hash(7, 1, End=when(now, 1), Start=when(now - 50, 1)))
    midnight = (now // 86400 + 1) * 86400
    assert midnight + 3600 <= store.client.expiretime(f"job:seg:{now // 86400}") <= midnight + 3605
    one.close()


def test_the_prefix_of_jobcomploc(server: RedisServer, store: Store) -> None:
    one, other = Client(server, tmf=1, loc="cluster1"), Client(server, tmf=1)
    assert one.job_ends(job_hash(7, 1)) == f"cluster1:job:seg:{DAY}".encode()
    assert (len(one.sacct()), len(other.sacct())) == (1, 0)
    one.close()
    other.close()


def test_a_window_holds_what_overlaps_it(client: Client, store: Store) -> None:
    """Upstream has only jobs that lie wholly inside. -j asks without a window: Start 0."""
    client.job_ends(job_hash(1, client.tmf))  # from NOON - 50 to NOON, submitted at NOON - 60
    for start, end, there in [
        (NOON - 100, NOON + 100, True),
        (NOON - 30, NOON - 20, True),
        (NOON - 30, NOON + 100, True),
        (NOON - 100, NOON - 30, True),
        (NOON, NOON + 1, True),
        (NOON + 1, NOON + 100, False),
        (NOON - 100, NOON - 60, False),
    ]:
        assert bool(client.sacct(start, end)) == there, (start, end)
    assert client.sacct(job=[1])


def test_every_criterion(client: Client) -> None:
    fates = {
        1: ("one", "a", "3", "5", "6", "1"),
        2: ("two", "b", "5", "7", "8", "4"),
        3: ("one", "b", "4", "5", "8", "2"),
    }
    for number, (name, partition, state, uid, gid, nodes) in fates.items():
        fields = {"JobName": name, "Partition": partition, "State": state, "UID": uid, "GID": gid, "NNodes": nodes}
        client.job_ends(job_hash(number, client.tmf, **fields))

    def ids(**question: Any) -> list[int]:
        return [int(text(row)["JobID"]) for row in client.sacct(**question)]

    assert ids(jnm=["one"]) == [1, 3]
    assert ids(prt=["b"], uid=["5"]) == [3]
    assert ids(stt=["3", "5"]) == [1, 2]
    assert ids(gid=["8"]) == [2, 3]
    assert ids(job=[3, 1, 99]) == [1, 3]
    assert ids(nodes=(2, 4)) == [2, 3]
    assert ids(nodes=(3, 0)) == [2]
    assert ids(jnm=["one"], prt=["b"], stt=["4"], uid=["5"], gid=["8"], job=[3], nodes=(2, 2)) == [3]
    assert ids(jnm=["three"]) == []


def test_jobs_come_in_five_hundreds_and_all_of_them_however_slow_the_client(client: Client, store: Store) -> None:
    """Upstream's match set expires 60 s after MATCH whatever is fetched, and a count below 500 drops what is left of
    each 500. The query's own keys may go: a query that is open needs none."""
    store.put(*(job(number) for number in range(1, 1202)))

    def lose_keys(query: str) -> None:
        store.client.delete(*store.client.keys(f"job:qry:{query}*"), "none")

    rows = client.sacct(pause=lose_keys)
    assert [int(text(row)["JobID"]) for row in rows] == list(range(1, 1202))
    assert len(client.sacct(count=100)) == 1201


def test_what_the_client_has_to_be_allowed(server: RedisServer, store: Store) -> None:
    """It knows a password and no user (AUTH <password>), so this is for `default`; docs/moving.md has these words."""
    page = (ROOT / "docs" / "moving.md").read_text()
    (line,) = (line for line in page.splitlines() if "+slurmjc.index" in line)
    words = line[line.index("-@all") :].partition("`")[0].split()
    # redis-py itself wants to name its version
    store.client.execute_command("ACL", "SETUSER", "old", "on", ">pw", "resetchannels", *words, "+client")
    try:
        one = Client(server, tmf=1, ttl=3600, username="old", password="pw")
        one.job_ends(job_hash(7, 1))
        assert len(one.sacct(job=[7], uid=["1000"])) == 1
        assert one._command("PING") == b"PONG"
        one.close()
    finally:
        store.client.execute_command("ACL", "DELUSER", "old")


def test_the_client_that_finds_no_module_is_told(client: Client, store: Store) -> None:
    """What it does then (DISCARD) leaves nothing half done."""
    client._say("MULTI")
    client._say("HSET", "job:1", "JobID", "1")
    client._say("SLURMJC.INDEXES", "job", "1")
    assert [client._hear(), client._hear()] == [b"OK", b"QUEUED"]
    with pytest.raises(Exception, match="unknown command"):
        client._hear()
    assert client._command("DISCARD") == b"OK"
    assert store.client.keys("*") == []
