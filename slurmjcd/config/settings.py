# SPDX-License-Identifier: MIT
"""What can be configured, its defaults and ranges. No I/O: configfile.py reads, checks.py looks at the machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

SUN_PATH_MAX = 107  # bytes of a Unix socket's path, without its NUL
MIB = 1024 * 1024
_PORT = re.compile(r"[0-9]{1,5}")
_PORT_MAX = 65535
SENTINEL_PORT = 26379
_SENTINEL = ("redis+sentinel://", "rediss+sentinel://")
REDIS_PORT = 6379
_CLUSTER = ("redis+cluster://", "rediss+cluster://")
_HASH_TAG = re.compile(r"[^{]*\{[^}]+\}.*")


def _socket_path(path: Path) -> Path:
    size = len(str(path).encode())
    if size > SUN_PATH_MAX:
        raise ValueError(
            f"a socket path may have {SUN_PATH_MAX} bytes, this one has {size}: choose a shorter directory"
        )
    return _absolute(path)


def _absolute(path: Path) -> Path:
    if str(path) and not path.is_absolute():
        raise ValueError(f"must be an absolute path, not '{path}'")
    if "\0" in str(path):
        raise ValueError("must not hold a NUL byte")
    return path


def _check_url(address: str) -> None:
    try:
        url = urlsplit(address)
        port = url.port
    except ValueError as exc:
        raise ValueError(f"address must be redis://host:port or rediss://host:port: {exc}") from None
    if not url.hostname or port == 0 or url.path not in ("", "/") or url.query or url.fragment:
        raise ValueError("address must be redis://host:port or rediss://host:port and nothing more")


def sentinels(address: str) -> tuple[list[tuple[str, int]], str]:
    """Hosts and ports of the sentinels, and the name of what they watch, in redis+sentinel://host:port,host:port/name.

    Raises:
        ValueError: it is no such address.
    """
    form = "address must be redis+sentinel://host:port,host:port/name, name being what the sentinels call the master"
    try:
        url, places = _places(address, SENTINEL_PORT)
    except ValueError as exc:
        raise ValueError(f"{form}: {exc}") from None
    name = url.path.removeprefix("/")
    if not all(host and port for host, port in places) or not name or "/" in name or url.query or url.fragment:
        raise ValueError(form)
    return places, name


def cluster_nodes(address: str) -> list[tuple[str, int]]:
    """Hosts and ports of the nodes in redis+cluster://host:port,host:port.

    Raises:
        ValueError: it is no such address.
    """
    form = "address must be redis+cluster://host:port,host:port and nothing more: some nodes of the cluster"
    try:
        url, places = _places(address, REDIS_PORT)
    except ValueError as exc:
        raise ValueError(f"{form}: {exc}") from None
    if not all(host and port for host, port in places) or url.path not in ("", "/") or url.query or url.fragment:
        raise ValueError(form)
    return places


def _places(address: str, port: int) -> tuple[SplitResult, list[tuple[str, int]]]:
    """An address, and its hosts and ports; `port` where none is said."""
    url = urlsplit(address)
    each = [urlsplit(f"//{place}") for place in url.netloc.split(",")]
    return url, [(one.hostname or "", port if one.port is None else one.port) for one in each]


def has_hash_tag(prefix: str) -> bool:
    """Whether a cluster keeps all keys with this prefix in one slot."""
    return _HASH_TAG.fullmatch(prefix) is not None


def _check_loopback(listen: str, alternative: str = "") -> None:
    host, _, port = listen.rpartition(":")
    if host.strip("[]") not in ("127.0.0.1", "::1", "localhost"):
        raise ValueError(f"listen must be a loopback address{alternative}, not '{listen}'")
    if not _PORT.fullmatch(port) or int(port) > _PORT_MAX:
        raise ValueError(f"listen must end with a port from 0 to 65535, not '{port}'")


def _octal(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return int(value, 8)
        except ValueError:
            raise ValueError("must be an octal string such as '0600'") from None
    raise ValueError("must be an octal string such as '0600'")


SocketPath = Annotated[Path, AfterValidator(_socket_path)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Mode = Annotated[int, BeforeValidator(_octal), Field(ge=0, le=0o777)]
OptionalSocketPath = Annotated[SocketPath | None, BeforeValidator(lambda value: value or None)]
OptionalPath = Annotated[AbsolutePath | None, BeforeValidator(lambda value: value or None)]
Bytes = Annotated[int, Field(ge=4096, le=2**50)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, nothing is converted silently, nothing changes after start."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, hide_input_in_errors=True, allow_inf_nan=False)


class DaemonSection(Section):
    """Who the daemon is on this machine."""

    roles: list[Literal["ingest", "query"]] = Field(
        ["ingest", "query"], min_length=1, description="what this daemon does; a login node has only 'query'"
    )
    slurm_user: str = Field("slurm", min_length=1, description="SlurmUser of slurm.conf, by name or uid")
    run_dir: AbsolutePath = Field(Path("/run/slurmjcd"), description="directory of the sockets")
    state_dir: AbsolutePath = Field(Path("/var/lib/slurmjcd"), description="directory of spool and embedded Redis")
    drain_s: Seconds = Field(10.0, description="longest time that SIGTERM waits for work in progress")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="what goes to stderr")


class IngestSection(Section):
    """Where slurmctld's plugin delivers records."""

    socket: OptionalSocketPath = Field(None, description="default: ingest.sock in daemon.run_dir")
    mode: Mode = Field(0o600, validate_default=False, description="mode of the socket, if systemd doesn't own it")
    request_bytes: int = Field(4 * MIB, ge=64 * 1024, le=64 * MIB, description="largest request")
    connections: int = Field(64, ge=1, le=10_000, description="connections at a time")
    batch_records: int = Field(8192, ge=1, le=100_000, description="records in one commit of the spool, at most")
    batch_bytes: int = Field(4 * MIB, ge=4096, le=64 * MIB, description="bytes in one commit of the spool, at most")
    batch_ms: float = Field(2.0, ge=0, le=1000, description="how long a commit waits for more records")
    pending_bytes: int = Field(
        32 * MIB, ge=MIB, le=2**30, description="received and not yet committed; above this sockets aren't read"
    )


class QuerySection(Section):
    """Where sacct and slurmjc ask."""

    socket: OptionalSocketPath = Field(None, description="default: query.sock in daemon.run_dir")
    mode: Mode = Field(0o666, validate_default=False, description="mode of the socket, if systemd doesn't own it")
    connections: int = Field(512, ge=1, le=10_000, description="connections at a time")
    connections_per_uid: int = Field(16, ge=1, le=10_000, description="connections of one user at a time")
    waiting: int = Field(2000, ge=1, le=100_000, description="connections that wait for jobs to end, beside the others")
    waiting_per_uid: int = Field(500, ge=1, le=100_000, description="of these, one user's (slurmjc wait and watch)")
    connections_per_uid_s: float = Field(100.0, gt=0, le=1e6, description="new connections of one user in a second")
    idle_s: Seconds = Field(60.0, description="a connection that asks nothing for so long is closed")
    request_s: Seconds = Field(10.0, description="a request that began must have come whole within this")
    timeout_s: Seconds = Field(10.0, description="longest wait for one answer of the store")
    total_s: Seconds = Field(3600.0, description="how long a connection may last, whatever it does")
    open_queries: int = Field(16, ge=1, le=1000, description="queries a connection may have open at a time")
    page_rows: int = Field(2000, ge=1, le=100_000, description="rows in one FETCH, at most")
    query_rows: int = Field(20_000_000, ge=1, le=10**12, description="rows of one query; with more it ends in an error")
    answer_bytes: int = Field(8 * MIB, ge=MIB, le=2**30, description="one answer, at most; pages of FETCH have 1 MiB")
    memory_bytes: int = Field(
        64 * MIB,
        ge=8 * MIB,
        le=2**40,
        description="answers not yet read and requests not yet whole, of all connections",
    )
    store_connections: int = Field(8, ge=1, le=1000, description="connections to Redis for questions, to each shard")


class SpoolSection(Section):
    """Records on their way to Redis, on disk before they are acknowledged."""

    path: OptionalPath = Field(None, description="default: spool.db in daemon.state_dir")
    max_bytes: Bytes = Field(4096 * MIB, description="records kept in all; when reached, slurmctld's side waits")
    replay_s: float = Field(86_400.0, ge=0, le=366 * 86_400, description="how long shipped records stay for a replay")
    replay_bytes: int = Field(2048 * MIB, ge=0, le=2**50, description="shipped records kept for a replay, at most")


class RedisSection(Section):
    """Where jobs live. Without an address the daemon runs its own Redis, see [embedded]."""

    address: str = Field(
        "",
        description="unix:/path, redis://host:port, rediss://host:port (TLS), redis+sentinel://host,host,host/name, "
        "redis+cluster://host:port,host:port",
    )
    shards: int = Field(
        1,
        ge=1,
        le=256,
        description="parts of the store on a cluster, jobs being spread by id; `slurmjc reshard` changes it",
    )
    sentinel_user: str = Field("", description="ACL user of the sentinels")
    sentinel_password_file: OptionalPath = Field(None, description="file (mode 0600) with its password")
    user: str = Field("", description="ACL user that writes")
    password_file: OptionalPath = Field(None, description="file (mode 0600) with its password")
    reader_user: str = Field("", description="ACL user that only reads, for questions; default: user")
    reader_password_file: OptionalPath = Field(None, description="file (mode 0600) with its password")
    tls_ca_file: OptionalPath = Field(None, description="CA that signed the server's certificate")
    tls_cert_file: OptionalPath = Field(None, description="certificate this daemon shows")
    tls_key_file: OptionalPath = Field(None, description="its key (mode 0600 or less)")
    read_from: Literal["master", "replica"] = Field(
        "master",
        description="with sentinels or a cluster: who answers questions; the master where no replica will do",
    )
    replica_lag_s: float = Field(
        30.0, ge=10.0, le=86_400, description="how far a replica that is asked may be behind its master"
    )
    prefix: str = Field("job", pattern=r"^[\x21-\x7e]{1,128}$", description="first part of every key")
    ttl_s: int = Field(
        0, ge=0, le=2**31, description="retention: jobs go so long after their end; 0 keeps them for ever"
    )
    durability: Literal["memory", "aof", "replicas"] = Field(
        "memory", description="when a record counts as shipped: in memory, fsynced (WAITAOF), on replicas (WAIT)"
    )
    replicas: int = Field(1, ge=1, le=100, description="how many replicas, with durability = 'replicas'")
    events: int = Field(
        100_000, ge=0, le=10**9, description="newest jobs kept on the stream <prefix>:events (350 bytes each); 0: none"
    )
    batch_records: int = Field(500, ge=1, le=60_000, description="records in one PUT, at most")
    batch_bytes: int = Field(512 * 1024, ge=4096, le=64 * MIB, description="bytes in one PUT, at most")
    in_flight: int = Field(8, ge=1, le=1000, description="PUTs sent ahead of their replies")
    connect_s: Seconds = Field(2.0, description="longest wait for a connection")
    reply_s: Seconds = Field(5.0, description="longest wait for a reply")

    @model_validator(mode="after")
    def _address_is_known(self) -> RedisSection:
        if self.address and not self.address.startswith(("unix:/", "redis://", "rediss://", *_SENTINEL, *_CLUSTER)):
            raise ValueError(
                "address must be unix:/path, redis://host:port, rediss://host:port, redis+sentinel:// or "
                "redis+cluster://"
            )
        if "@" in self.address:
            raise ValueError("address must not hold a password: use user and password_file")
        if self.address.startswith("unix:"):
            _socket_path(Path(self.address.removeprefix("unix:")))
        elif self.has_sentinels:
            sentinels(self.address)
        elif self.has_cluster:
            cluster_nodes(self.address)
        elif self.address:
            _check_url(self.address)
        if self.read_from == "replica" and not (self.has_sentinels or self.has_cluster):
            raise ValueError(
                "read_from = 'replica' needs sentinels or a cluster in address: they know where replicas are. To ask "
                "one replica, put that into address on a host that only asks, and leave read_from out"
            )
        return self

    @model_validator(mode="after")
    def _prefix_fits_shards(self) -> RedisSection:
        tagged = has_hash_tag(self.prefix)
        if self.shards > 1 and ("{" in self.prefix or "}" in self.prefix):
            raise ValueError(
                f"prefix '{self.prefix}' must have no braces with shards = {self.shards}: each shard gets a hash tag "
                "of its own"
            )
        if self.shards == 1 and self.has_cluster and not tagged:
            raise ValueError(
                f"prefix '{self.prefix}' needs a hash tag on a cluster: prefix = '{{{self.prefix}}}' keeps all jobs on "
                "one server, shards = 3 or more spreads them"
            )
        return self

    @property
    def has_cluster(self) -> bool:
        """Whether the address is one of a cluster's nodes, who say which of them has what."""
        return self.address.startswith(_CLUSTER)

    @property
    def has_sentinels(self) -> bool:
        """Whether the address is one of sentinels, who say where Redis is."""
        return self.address.startswith(_SENTINEL)

    @property
    def has_tls(self) -> bool:
        return self.address.startswith("rediss")


class EmbeddedSection(Section):
    """The daemon's own Redis, used while redis.address is empty."""

    server: str = Field("", description="redis-server or valkey-server; default: the first of them in PATH")
    module: AbsolutePath = Field(
        Path("/usr/lib/redis/modules/slurm_jobcomp.so"), description="slurm_jobcomp.so, executable and root's"
    )
    dir: OptionalPath = Field(None, description="default: redis in daemon.state_dir")
    socket: OptionalSocketPath = Field(None, description="default: redis.sock in embedded.dir")
    appendfsync: Literal["always", "everysec"] = Field("everysec", description="as in redis.conf")
    maxmemory: int = Field(0, ge=0, le=2**50, description="bytes; 0: no limit")


class AccessSection(Section):
    """Who may see whose jobs."""

    private_data: Literal["slurm"] | bool = Field(
        "slurm", description="true: users see their own jobs; false: everyone sees all; 'slurm': as PrivateData says"
    )
    slurm_conf: AbsolutePath = Field(Path("/etc/slurm/slurm.conf"), description="where PrivateData is read")
    operators: list[str] = Field([], description="who sees all: user names, uids, or groups as '%group'")
    coordinators: dict[str, list[str]] = Field(
        {}, description="who sees all jobs of an account: { physics = ['ada', '%physics-coord'] }"
    )


class HealthSection(Section):
    """/healthz, /readyz, /metrics and the status page."""

    listen: str = Field("127.0.0.1:9856", description="loopback host:port, unix:/path, or '' for none")
    token_file: OptionalPath = Field(
        None, description="file (mode 0600) with the token for search and reports on the status page; none: off"
    )

    @model_validator(mode="after")
    def _listen_is_local(self) -> HealthSection:
        if self.listen.startswith("unix:/"):
            _socket_path(Path(self.listen.removeprefix("unix:")))
        elif self.listen:
            _check_loopback(self.listen, " or unix:/path")
        return self


class IntakeSection(Section):
    """Where Slurm's own jobcomp/elasticsearch may post jobs, for sites without our plugin."""

    listen: str = Field("", description="loopback host:port for JobCompLoc=http://host:port/intake/<cluster>; '': none")
    token_file: OptionalPath = Field(None, description="file (mode 0600) with what must follow /intake/<cluster>/")
    body_bytes: int = Field(32 * MIB, ge=64 * 1024, le=2**30, description="one job's document with its script, at most")

    @model_validator(mode="after")
    def _listen_is_local(self) -> IntakeSection:
        if self.listen:
            _check_loopback(self.listen)
        return self


class ColdSection(Section):
    """Files for days that Redis need not hold, which are asked as well: docs/retention.md. Needs pyarrow."""

    dir: OptionalPath = Field(None, description="directory of a Parquet file a day; none: all days stay in Redis")
    after_days: int = Field(7, ge=1, le=36_500, description="whole days that stay in Redis")
    keep_days: int = Field(0, ge=0, le=36_500, description="whole days after which a file is removed; 0: never")
    engine: AbsolutePath = Field(
        Path("/usr/lib/slurmjcd/slurmjc_engine.so"), description="slurmjc_engine.so, which asks the files"
    )
    check_s: Seconds = Field(60.0, description="how often it is looked for days to move")
    timeout_s: Seconds = Field(
        30.0, description="longest wait for one answer when files are asked; see query.timeout_s"
    )

    @model_validator(mode="after")
    def _files_outlast_the_window(self) -> ColdSection:
        if self.keep_days and self.keep_days <= self.after_days:
            raise ValueError(
                f"keep_days ({self.keep_days}) must be more than after_days ({self.after_days}), or 0: a file is made "
                "when its day is that old"
            )
        return self


class Config(Section):
    """All of it."""

    daemon: DaemonSection = DaemonSection()
    ingest: IngestSection = IngestSection()
    query: QuerySection = QuerySection()
    spool: SpoolSection = SpoolSection()
    redis: RedisSection = RedisSection()
    embedded: EmbeddedSection = EmbeddedSection()
    access: AccessSection = AccessSection()
    health: HealthSection = HealthSection()
    intake: IntakeSection = IntakeSection()
    cold: ColdSection = ColdSection()

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        if "ingest" not in self.daemon.roles and not self.redis.address:
            raise ValueError("redis.address must be set when daemon.roles has no 'ingest': there is no Redis to ask")
        if "ingest" not in self.daemon.roles and self.intake.listen:
            raise ValueError("intake.listen must be '' when daemon.roles has no 'ingest': jobs go to its spool")
        for name, path in (("ingest.socket", self.ingest_socket), ("query.socket", self.query_socket)):
            try:
                _socket_path(path)
            except ValueError as exc:
                raise ValueError(f"{name} '{path}': {exc}") from None
        if self.embedded_used and len(str(self.embedded_socket).encode()) > SUN_PATH_MAX:
            raise ValueError(
                f"embedded.socket '{self.embedded_socket}' is longer than {SUN_PATH_MAX} bytes: set a shorter one"
            )
        if self.ingest_socket == self.query_socket:
            raise ValueError("ingest.socket and query.socket must differ")
        if self.cold.dir and 0 < self.redis.ttl_s <= (self.cold.after_days + 1) * 86_400:
            raise ValueError(
                f"redis.ttl_s ({self.redis.ttl_s}) must be 0, or more than {(self.cold.after_days + 1) * 86_400}: jobs "
                f"are in Redis for cold.after_days ({self.cold.after_days}) and the day of their end, then in a file"
            )
        return self

    @property
    def ingest_socket(self) -> Path:
        return self.ingest.socket or self.daemon.run_dir / "ingest.sock"

    @property
    def query_socket(self) -> Path:
        return self.query.socket or self.daemon.run_dir / "query.sock"

    @property
    def spool_path(self) -> Path:
        return self.spool.path or self.daemon.state_dir / "spool.db"

    @property
    def embedded_used(self) -> bool:
        return not self.redis.address

    @property
    def embedded_dir(self) -> Path:
        return self.embedded.dir or self.daemon.state_dir / "redis"

    @property
    def embedded_socket(self) -> Path:
        return self.embedded.socket or self.embedded_dir / "redis.sock"

    @property
    def redis_address(self) -> str:
        return self.redis.address or f"unix:{self.embedded_socket}"
