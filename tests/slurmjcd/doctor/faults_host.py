# SPDX-License-Identifier: MIT
"""What can be wrong on the host: files, sockets, configuration, plugin, spool. Each is planted for real."""

from __future__ import annotations

import shutil
import socket
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.slurmjcd.doctor.clinic import Clinic
from tests.slurmjcd.slurm.test_slurmplugin import built_for

# plants a fault and says words of its fix, and which other findings follow from it
Fault = Callable[[Clinic], AbstractContextManager[tuple[str, ...]]]
FAULTS: dict[str, Fault] = {}


def plants(code: str) -> Callable[[Callable[[Clinic], Iterator[tuple[str, ...]]]], Fault]:
    def register(make: Callable[[Clinic], Iterator[tuple[str, ...]]]) -> Fault:
        FAULTS[code] = contextmanager(make)
        return FAULTS[code]

    return register


Found = Iterator[tuple[str, ...]]

# ---- configuration and sockets ---------------------------------------------------------------------------------------


@plants("config-file")
def _(site: Clinic) -> Found:
    with site.raw_config("[spool]\nmax_byte = 5\n"):
        yield ("did you mean 'spool.max_bytes'?",)


@plants("config-user")
def _(site: Clinic) -> Found:
    with site.edited(daemon={"slurm_user": "nobody-of-that-name"}):
        yield ("set it to SlurmUser of slurm.conf",)


@plants("config-directory")
def _(site: Clinic) -> Found:
    with site.mode(site.spool_dir, 0o777):
        yield (f"chmod o-w {site.spool_dir}",)


@plants("config-secret")
def _(site: Clinic) -> Found:
    with site.file(site.path / "key", mode=0o644) as key, site.edited(redis={"tls_key_file": str(key)}):
        yield (f"chmod 600 {key}",)


@plants("socket-missing")
def _(site: Clinic) -> Found:
    with site.edited(ingest={"socket": str(site.daemon.run_dir / "none.sock")}):
        yield ("systemctl start slurmjcd",)


@plants("socket-foreign")
def _(site: Clinic) -> Found:
    with (
        site.file(site.daemon.run_dir / "foreign.sock") as path,
        site.edited(ingest={"socket": str(path)}),
    ):
        yield (f"mv {path} {path}.old && systemctl restart",)


@plants("socket-directory")
def _(site: Clinic) -> Found:
    with site.mode(site.redis.directory, 0o777):
        yield (f"chmod o-w {site.redis.directory}",)


@plants("ingest-mode")
def _(site: Clinic) -> Found:
    with site.mode(site.daemon.ingest_socket, 0o666):
        yield (f"chmod 600 {site.daemon.ingest_socket}",)


@plants("ingest-owner")
def _(site: Clinic) -> Found:
    with site.owner(site.daemon.ingest_socket, 12345):
        yield (f"chown root {site.daemon.ingest_socket}",)


@plants("query-mode")
def _(site: Clinic) -> Found:
    with site.mode(site.daemon.query_socket, 0o600):
        yield (f"chmod 666 {site.daemon.query_socket}",)


@plants("redis-socket-mode")
def _(site: Clinic) -> Found:
    with site.mode(site.redis.socket, 0o777):
        yield (f"chmod o-rwx {site.redis.socket}",)


# ---- who sees what ---------------------------------------------------------------------------------------------------


@plants("private-data-weaker")
def _(site: Clinic) -> Found:
    with site.edited(access={"private_data": False}):
        yield ('private_data = "slurm"',)


@plants("private-data-unknown")
def _(site: Clinic) -> Found:
    with site.edited(access={"slurm_conf": "/nowhere/slurm.conf"}):
        yield ("[access] slurm_conf =", "slurm-conf-unreadable")


@plants("operator-unknown")
def _(site: Clinic) -> Found:
    with site.edited(access={"operators": ["%no-such-group"]}):
        yield ("take '%no-such-group' out of operators",)


# ---- slurm.conf and plugin -------------------------------------------------------------------------------------------


@plants("slurm-conf-unreadable")
def _(site: Clinic) -> Found:
    with site.edited(access={"slurm_conf": "/nowhere/slurm.conf", "private_data": True}):
        yield ("[access] slurm_conf =",)


@plants("slurm-user")
def _(site: Clinic) -> Found:
    with site.slurm_says(SlurmUser="daemon"):
        yield ('slurm_user = "daemon"',)


@plants("jobcomp-type")
def _(site: Clinic) -> Found:
    with site.slurm_says(JobCompType="jobcomp/filetxt"):
        yield (f"JobCompType=jobcomp/redis in {site.slurm_conf}",)


@plants("jobcomp-loc")
def _(site: Clinic) -> Found:
    with site.slurm_says(JobCompLoc="/run/elsewhere"):
        yield (f"JobCompLoc={site.daemon.run_dir} in",)


@plants("jobcomp-params")
def _(site: Clinic) -> Found:
    with site.slurm_says(JobCompParams="ring_mib=5000"):
        yield ("ring_mib=<1 to 1024>",)


@plants("plugin-missing")
def _(site: Clinic) -> Found:
    with site.slurm_says(PluginDir=str(site.path / "state")):
        yield (f"jobcomp_redis.so {site.path / 'state'}/",)


@plants("plugin-version")
def _(site: Clinic) -> Found:
    path = built_for(site.path / "older", (22, 5, 3))
    path.chmod(0o755)
    with site.slurm_says(PluginDir=str(path.parent)):
        yield ("only then restart slurmctld",)


@plants("plugin-damaged")
def _(site: Clinic) -> Found:
    whole = site.plugin.read_bytes()
    site.plugin.write_bytes(whole[:5000])
    yield (f"install {site.plugin} again",)
    site.plugin.write_bytes(whole)


@plants("plugin-writable")
def _(site: Clinic) -> Found:
    with site.mode(site.plugin, 0o777):
        yield (f"chmod 755 {site.plugin}",)


# ---- what was left behind, and the spool -----------------------------------------------------------------------------


@plants("spill-left")
def _(site: Clinic) -> Found:
    with site.file(site.path / "state" / "jobcomp_redis.a.spill", age_s=3600):
        yield ("start slurmctld with JobCompType=jobcomp/redis",)


@plants("set-aside")
def _(site: Clinic) -> Found:
    with site.file(site.spool_dir / "spool.db.damaged-1700000000"):
        yield ("slurmjc audit says what is missing",)


@plants("ring-dropped")
def _(site: Clinic) -> Found:
    with site.spool_copy(lambda db: _source(db, attempted=17, dropped=17)):
        yield ("JobCompParams=ring_mib=",)


def _source(db: sqlite3.Connection, **counts: int) -> None:
    names = ", ".join(counts)
    db.execute(f"INSERT INTO source (id, {names}) VALUES ('r', {', '.join(map(str, counts.values()))})")


@plants("records-lost")
def _(site: Clinic) -> Found:
    with site.spool_copy(lambda db: db.execute("UPDATE meta SET value = 3 WHERE key = 'lost'") and None):
        yield ("slurmjc audit",)


@plants("records-unaccounted")
def _(site: Clinic) -> Found:
    with site.spool_copy(lambda db: _source(db, watermark=2)):
        yield ("slurmjc audit --json",)


@plants("quarantined")
def _(site: Clinic) -> Found:
    with site.spool_copy(
        lambda db: db.execute("INSERT INTO quarantine VALUES (1, 's', 1, 'no record', x'00')") and None
    ):
        yield ("slurmjc quarantine list",)


@plants("spool-missing")
def _(site: Clinic) -> Found:
    with site.edited(spool={"path": str(site.spool_dir / "none.db")}):
        yield ("systemctl start slurmjcd",)


@plants("spool-unreadable")
def _(site: Clinic) -> Found:
    path = site.spool_dir / "noise.db"
    with site.file(path, b"noise" * 1000), site.edited(spool={"path": str(path)}):
        yield ("systemctl restart slurmjcd",)


@plants("spool-owner")
def _(site: Clinic) -> Found:
    with site.spool_copy() as path, site.owner(path, 12345):
        yield (f"chown --reference={site.spool_dir} {path}*",)


@plants("spool-mode")
def _(site: Clinic) -> Found:
    with site.spool_copy() as path, site.mode(path, 0o644):
        yield (f"chmod 600 {path}*",)


@plants("spool-volatile")
def _(site: Clinic) -> Found:
    directory = Path(tempfile.mkdtemp(dir="/dev/shm"))
    with site.spool_copy() as path:
        shutil.copy(path, directory / "spool.db")
        with site.edited(spool={"path": str(directory / "spool.db")}):
            yield ('[spool] path = "/var/lib/slurmjcd/spool.db"',)
    shutil.rmtree(directory)


@plants("spool-space")
def _(site: Clinic) -> Found:
    with site.edited(spool={"max_bytes": 2**50}):
        yield ("[spool] max_bytes = ",)


# ---- the daemon ------------------------------------------------------------------------------------------------------


@plants("daemon-down")
def _(site: Clinic) -> Found:
    path = site.daemon.run_dir / "dead.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    path.chmod(0o666)
    with site.edited(query={"socket": str(path)}):
        yield ("systemctl start slurmjcd",)
    path.unlink()
