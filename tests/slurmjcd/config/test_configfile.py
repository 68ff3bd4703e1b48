# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
from pathlib import Path

import pytest

from slurmjcd.config import configfile, sample
from slurmjcd.config.settings import Config, cluster_nodes, sentinels
from slurmjcd.errors import ConfigError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "slurmjcd.toml"


def load(path: Path, text: str, **env: str) -> Config:
    path.write_text(text)
    return configfile.load(path, env)


def test_missing_default_file_means_defaults() -> None:
    assert configfile.load(None, {}) == Config()


def test_values_are_taken(path: Path) -> None:
    config = load(path, '[daemon]\nroles = ["ingest"]\nrun_dir = "/run/x"\n[ingest]\nmode = "0660"\nbatch_ms = 5\n')
    assert config.daemon.roles == ["ingest"]
    assert config.ingest_socket == Path("/run/x/ingest.sock")
    assert config.ingest.mode == 0o660
    assert config.ingest.batch_ms == 5.0


def test_environment_overrides_the_file(path: Path) -> None:
    config = load(
        path, '[spool]\nmax_bytes = 8192\n',
        SLURMJCD_SPOOL__MAX_BYTES="16384", SLURMJCD_SPOOL__PATH="/data/spool.db", SLURMJCD_ACCESS__PRIVATE_DATA="true",
        SLURMJCD_DAEMON__ROLES='["ingest"]', OTHER="x", SLURMJCD_PLAIN="no section, not ours",
    )  # fmt: skip
    assert config.spool.max_bytes == 16384
    assert config.spool_path == Path("/data/spool.db")
    assert config.access.private_data is True
    assert config.daemon.roles == ["ingest"]


def test_environment_is_judged_as_the_file_is(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'spool\.pth': did you mean 'spool\.path'\?"):
        load(path, "", SLURMJCD_SPOOL__PTH="/x")


def test_bytes_of_the_environment_that_are_no_utf8_are_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"spool\.path: control characters, or bytes that are no UTF-8"):
        load(path, "", SLURMJCD_SPOOL__PATH="/x\udcff")


@pytest.mark.parametrize("value", ["[" * 5000, "9" * 5000])
def test_a_value_of_the_environment_that_tomllib_cant_take_is_a_string(path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match=r"spool\.max_bytes: should be a valid integer"):
        load(path, "", SLURMJCD_SPOOL__MAX_BYTES=value)


@pytest.mark.parametrize("address", ["unix:/run/r", "redis://h", "redis://[::1]:6380", "rediss://db.example:6379/"])
def test_addresses_are_taken(path: Path, address: str) -> None:
    assert load(path, f'[redis]\naddress = "{address}"').redis_address == address


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[spool]\nmax_byts = 8192", "unknown key 'spool.max_byts': did you mean 'spool.max_bytes'?"),
        ("[spol]\n", "unknown section 'spol': did you mean 'spool'?"),
        ("[query]\nreplay_bytes = 1", "unknown key 'query.replay_bytes': it belongs into [spool]"),
        ("[health]\nzzz = 1", "unknown key 'health.zzz': known here: listen"),
        ("spool = 3", "'spool' must be a section: write [spool]"),
        ('[spool]\nmax_bytes = "8192"', "spool.max_bytes: should be a valid integer"),
        ("[spool]\nmax_bytes = 0", "spool.max_bytes: should be greater than or equal to 4096"),
        ("[spool]\nmax_bytes = -5", "spool.max_bytes: should be greater than or equal to 4096"),
        ("[spool]\nmax_bytes = 99999999999999999999", "spool.max_bytes: should be less than or equal to"),
        ("[spool]\nmax_bytes = true", "spool.max_bytes: should be a valid integer"),
        ('[spool]\npath = "spool.db"', "spool.path: must be an absolute path, not 'spool.db'"),
        ("[spool]\npath = 2026-01-01", "spool.path: must be an absolute path"),
        ("[ingest]\nmode = 600", "ingest.mode: must be an octal string such as '0600'"),
        ('[ingest]\nmode = "9"', "ingest.mode: must be an octal string such as '0600'"),
        ('[ingest]\nmode = "1777"', "ingest.mode: should be less than or equal to 511"),
        (f'[query]\nsocket = "/{"x" * 107}"', "query.socket: a socket path may have 107 bytes, this one has 108"),
        (f'[daemon]\nrun_dir = "/{"x" * 100}"', "ingest.socket '/xxx"),
        (f'[daemon]\nstate_dir = "/{"x" * 95}"', "embedded.socket '/xxx"),
        (
            '[redis]\naddress = "localhost"',
            "address must be unix:/path, redis://host:port, rediss://host:port, redis+sentinel:// or redis+cluster://",
        ),
        ('[redis]\naddress = "redis://u:secret@h"', "address must not hold a password"),
        ('[redis]\nprefix = "a b"', "redis.prefix: String should match pattern"),
        ('[redis]\ndurability = "disk"', "redis.durability: should be 'memory', 'aof' or 'replicas'"),
        ("[daemon]\nroles = []", "daemon.roles: List should have at least 1 item"),
        ('[daemon]\nroles = ["ingst"]', "daemon.roles: should be 'ingest' or 'query'"),
        ('[daemon]\nroles = ["query"]', "redis.address must be set when daemon.roles has no 'ingest'"),
        ('[health]\nlisten = "0.0.0.0:9856"', "listen must be a loopback address or unix:/path, not '0.0.0.0:9856'"),
        ('[redis]\naddress = "redis+sentinel://a:1,b:2"', "address must be redis+sentinel://host:port,host:port/name"),
        (
            '[redis]\naddress = "redis+sentinel://a:1,/jobs"',
            "address must be redis+sentinel://host:port,host:port/name",
        ),
        ('[redis]\naddress = "redis+sentinel://a:x/jobs"', "address must be redis+sentinel://host:port,host:port/name"),
        ('[redis]\naddress = "redis+sentinel://a:0/jobs"', "address must be redis+sentinel://host:port,host:port/name"),
        ('[redis]\naddress = "redis+sentinel://a/b/c"', "address must be redis+sentinel://host:port,host:port/name"),
        ('[redis]\naddress = "redis+sentinel://u:p@a/jobs"', "address must not hold a password"),
        ('[redis]\naddress = "sentinel://a/jobs"', "rediss://host:port, redis+sentinel:// or redis+cluster://"),
        ('[redis]\naddress = "redis+cluster://a:1,b:0"', "address must be redis+cluster://host:port,host:port"),
        ('[redis]\naddress = "redis+cluster://a:1,:2"', "address must be redis+cluster://host:port,host:port"),
        ('[redis]\naddress = "redis+cluster://a:x"', "address must be redis+cluster://host:port,host:port"),
        ('[redis]\naddress = "redis+cluster://a/b"', "address must be redis+cluster://host:port,host:port"),
        (
            '[redis]\naddress = "redis+cluster://a"',
            "prefix 'job' needs a hash tag on a cluster: prefix = '{job}' keeps",
        ),
        ('[redis]\naddress = "redis+cluster://a"\nprefix = "a{}"', "prefix 'a{}' needs a hash tag on a cluster"),
        ('[redis]\nshards = 3\nprefix = "{job}"', "prefix '{job}' must have no braces with shards = 3"),
        ("[redis]\nshards = 0", "redis.shards: should be greater than or equal to 1"),
        ("[redis]\nshards = 257", "redis.shards: should be less than or equal to 256"),
        (
            '[redis]\naddress = "redis://a"\nread_from = "replica"',
            "read_from = 'replica' needs sentinels or a cluster in address: they know where replicas are. To ask one",
        ),
        ('[intake]\nlisten = "0.0.0.0:9857"', "listen must be a loopback address, not '0.0.0.0:9857'"),
        ('[intake]\nlisten = "unix:/run/x"', "listen must be a loopback address, not 'unix:/run/x'"),
        (
            '[daemon]\nroles = ["query"]\n[redis]\naddress = "unix:/x"\n[intake]\nlisten = "127.0.0.1:1"',
            "intake.listen must be '' when daemon.roles has no 'ingest'",
        ),
        ('[health]\nlisten = "127.0.0.1:99999"', "listen must end with a port from 0 to 65535, not '99999'"),
        ('[ingest]\nsocket = "/run/a"\n[query]\nsocket = "/run/a"', "ingest.socket and query.socket must differ"),
        ("[access]\nprivate_data = 3", "access.private_data: "),
        ("[spool", "not TOML: "),
        ("x = " + "[" * 5000, "not TOML: arrays or tables lie too deep in each other"),
        (".".join("a" * 3000) + " = 1", ": arrays or tables lie too deep in each other"),
        ("[spool]\nmax_bytes = " + "9" * 5000, "not TOML: Exceeds the limit"),
        ("[spool]\nmax_bytes = 0x" + "f" * 5000, ": Exceeds the limit"),
        ("[ingest]\nbatch_ms = nan", "ingest.batch_ms: should be a finite number"),
        ("[query]\nidle_s = inf", "query.idle_s: should be a finite number"),
        ('"a\\u001b[2Jb" = 1', "control characters, or bytes that are no UTF-8, in 'a\\x1b[2Jb'"),
        ('[redis]\nuser = "a\\u0000"', "redis.user: control characters"),
        ('[redis]\naddress = "redis://h:99999"', "address must be redis://host:port or rediss://host:port: Port out"),
        ('[redis]\naddress = "redis://["', "address must be redis://host:port or rediss://host:port: Invalid IPv6"),
        ('[redis]\naddress = "redis://:6379"', "address must be redis://host:port or rediss://host:port and nothing"),
        ('[redis]\naddress = "rediss://h:1/2"', "address must be redis://host:port or rediss://host:port and nothing"),
        (f'[redis]\naddress = "unix:/{"x" * 107}"', "a socket path may have 107 bytes, this one has 108"),
        (f'[health]\nlisten = "unix:/{"x" * 107}"', "a socket path may have 107 bytes, this one has 108"),
        ('[health]\nlisten = "127.0.0.1:²"', "listen must end with a port from 0 to 65535, not '²'"),
        (f'[health]\nlisten = "[::1]:{"9" * 5000}"', "listen must end with a port from 0 to 65535, not '999"),
        ("\ufeff[spool]\nx = 1", "unknown key 'spool.x'"),
    ],
)
def test_a_wrong_file_is_refused_with_what_would_be_right(path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(path, text)
    assert message in str(raised.value)
    assert str(path) in str(raised.value)
    assert all(line.isprintable() and len(line) < 1100 for line in str(raised.value).splitlines())
    assert "secret" not in str(raised.value)


def test_every_problem_has_its_line(path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load(path, "[spool]\nmax_bytes = 1\nx = 1\n[query]\nidle_s = 0\n")
    assert len(str(raised.value).splitlines()) == 3


def test_unreadable_files_are_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read: No such file"):
        configfile.load(path, {})
    path.mkdir()
    with pytest.raises(ConfigError, match="can't be read: Is a directory"):
        configfile.load(path, {})


def test_bytes_that_are_no_utf8_are_refused(path: Path) -> None:
    path.write_bytes(b"[spool]\n# \xff\n")
    with pytest.raises(ConfigError, match="byte 10 is not UTF-8"):
        configfile.load(path, {})


def test_a_file_that_everyone_may_write_is_refused(path: Path) -> None:
    path.write_text("")
    path.chmod(0o666)
    with pytest.raises(ConfigError, match="everyone may write to it: chmod o-w"):
        configfile.load(path, {})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_refused(path: Path) -> None:
    path.write_text("")
    os.chown(path, 12345, -1)
    with pytest.raises(ConfigError, match="belongs to uid 12345: chown root"):
        configfile.load(path, {})


def test_the_sample_is_the_defaults_commented_out_and_uncommented(path: Path) -> None:
    text = sample.sample()
    assert load(path, text) == Config()
    lines = [
        line[1:] if line.startswith("#") and " = " in line and not line.startswith("# ") else line
        for line in text.splitlines()
    ]
    assert load(path, "\n".join(lines)) == Config()
    keys = sum(len(type(getattr(Config(), section)).model_fields) for section in Config.model_fields)
    assert sum(line.startswith("#") and not line.startswith("# ") for line in text.splitlines()) == keys


@pytest.mark.parametrize("settings", ["shards = 3", 'prefix = "{job}"', 'shards = 1\nprefix = "a{b}c"'])
def test_an_address_of_a_cluster(path: Path, settings: str) -> None:
    config = load(path, f'[redis]\naddress = "rediss+cluster://a:1,b,[::1]:3"\n{settings}')
    assert config.redis.has_cluster
    assert config.redis.has_tls
    assert cluster_nodes(config.redis.address) == [("a", 1), ("b", 6379), ("::1", 3)]


def test_shards_need_no_cluster(path: Path) -> None:
    assert load(path, '[redis]\naddress = "unix:/r"\nshards = 3').redis.shards == 3


def test_an_address_of_sentinels() -> None:
    places, name = sentinels("redis+sentinel://a:1,b,[::1]:3/jobs")
    assert places == [("a", 1), ("b", 26379), ("::1", 3)]
    assert name == "jobs"
