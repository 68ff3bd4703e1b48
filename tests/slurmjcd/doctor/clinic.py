# SPDX-License-Identifier: MIT
"""A site in good health, with real servers, and ways to make one thing in it wrong for a while."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from slurmjcd.client.doctor import doctor as command
from tests.harness import ROOT, Daemon, RedisServer, run_dir
from tests.harness.paths import PLUGIN
from tests.slurmjcd.jobs import job

DAY_S = 86400
JOBS_PER_DAY = 2000
# what the machine that runs the tests has in its kernel, is its own
KERNEL = ("huge-pages", "huge-pages-unknown", "overcommit", "overcommit-unknown")
GOOD_REDIS = {
    "appendonly": "yes", "propagation-error-behavior": "panic-on-replicas", "enable-protected-configs": "yes",
}  # fmt: skip


class Clinic:
    """`doctor()` examines it."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.path = path
        self.spool_dir = Path(tempfile.mkdtemp(prefix="doctor-", dir=ROOT / "build"))  # /tmp may be a tmpfs
        stack.callback(shutil.rmtree, self.spool_dir)
        self.redis = RedisServer(path / "redis", options=GOOD_REDIS | self._acl(), ready_without_login=True)
        self.redis.start()
        stack.callback(self.redis.stop)
        self.admin = stack.enter_context(self.redis.client(username="admin", password="a"))
        self.slurm_conf = path / "slurm.conf"
        self.slurm = {
            "ClusterName": "clinic", "SlurmUser": "root", "JobCompType": "jobcomp/redis",
            "JobCompLoc": str(path / "jc" / "run"), "JobCompParams": f"ring_mib=8,ring_dir={path / 'ring'}",
            "PluginDir": str(path / "plugins"), "StateSaveLocation": str(path / "state"), "PrivateData": "jobs",
        }  # fmt: skip
        for name in ("plugins", "state", "ring"):
            (path / name).mkdir(mode=0o755)
        self.plugin = path / "plugins" / PLUGIN.name
        shutil.copyfile(PLUGIN, self.plugin)
        self.plugin.chmod(0o755)
        self._write_slurm_conf(self.slurm)
        self.settings: dict[str, dict[str, Any]] = {
            "spool": {"path": str(self.spool_dir / "spool.db"), "max_bytes": 64 << 20},
            "access": {"private_data": "slurm", "slurm_conf": str(self.slurm_conf), "operators": ["root", "%root"]},
            "redis": {
                "user": "slurmjcd-writer", "password_file": str(path / "w"),
                "reader_user": "slurmjcd-reader", "reader_password_file": str(path / "r"),
            },
        }  # fmt: skip
        self.daemon = Daemon(path / "jc", redis_address=self.redis.address, settings=self.settings)
        stack.callback(self.daemon.stop)
        self.daemon.start()
        self.conf = self.daemon.conf
        fill(self.redis.client(username="admin", password="a"))

    def _acl(self) -> dict[str, str]:
        text = (ROOT / "systemd" / "redis" / "slurmjcd.acl").read_text()
        for user in ("w", "r"):
            text = text.replace("0" * 64, hashlib.sha256(user.encode()).hexdigest(), 1)
        for name in ("w", "r", "a", "wrong"):
            (self.path / name).write_text(name)
            (self.path / name).chmod(0o600)
        (self.path / "acl").write_text(text + "user admin on >a ~* &* +@all\n")
        return {"aclfile": str(self.path / "acl")}

    def _write_slurm_conf(self, settings: dict[str, str]) -> None:
        self.slurm_conf.write_text("".join(f"{key}={value}\n" for key, value in settings.items() if value))

    # ---- examined ------------------------------------------------------------------------------------------------

    def doctor(self) -> tuple[int, list[dict[str, Any]]]:
        """Exit status and findings."""
        done = CliRunner().invoke(command, ["--config", str(self.conf), "--json"], catch_exceptions=False)
        findings = json.loads(done.stdout)["findings"]
        return done.exit_code, [found for found in findings if found["code"] not in KERNEL]

    def wrong(self) -> dict[str, list[dict[str, Any]]]:
        """Findings that are not good, by their code."""
        out: dict[str, list[dict[str, Any]]] = {}
        for found in self.doctor()[1]:
            if found["level"] != "ok":
                out.setdefault(found["code"], []).append(found)
        return out

    # ---- made wrong for a while ----------------------------------------------------------------------------------

    @contextmanager
    def edited(self, **sections: dict[str, Any]) -> Iterator[None]:
        """Another slurmjcd.toml; the running daemon keeps what it read."""
        before, text = self.conf, self.daemon.conf.read_text()
        merged = {name: dict(keys) for name, keys in self.settings.items()}
        for name, keys in sections.items():
            merged.setdefault(name, {}).update(keys)
        self.daemon.write_conf(merged)
        self.conf = self.path / f"edited-from-{before.name}"
        self.conf.write_text(self.daemon.conf.read_text())
        self.daemon.conf.write_text(text)
        try:
            yield
        finally:
            self.conf = before

    @contextmanager
    def raw_config(self, text: str) -> Iterator[None]:
        before, self.conf = self.conf, self.path / "raw.toml"
        self.conf.write_text(text)
        try:
            yield
        finally:
            self.conf = before

    @contextmanager
    def slurm_says(self, **changes: str) -> Iterator[None]:
        self._write_slurm_conf(self.slurm | changes)
        try:
            yield
        finally:
            self._write_slurm_conf(self.slurm)

    @contextmanager
    def redis_set(self, **changes: str | int) -> Iterator[None]:
        """CONFIG SET; _ stands for -."""
        names = {name.replace("_", "-"): value for name, value in changes.items()}
        before = {name: self.admin.config_get(name)[name] for name in names}
        for name, value in names.items():
            self.admin.config_set(name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                self.admin.config_set(name, value)

    @contextmanager
    def mode(self, path: Path, mode: int) -> Iterator[None]:
        before = path.stat().st_mode & 0o7777
        path.chmod(mode)
        try:
            yield
        finally:
            path.chmod(before)

    @contextmanager
    def owner(self, path: Path, uid: int) -> Iterator[None]:
        before = path.stat().st_uid
        os.chown(path, uid, -1)
        try:
            yield
        finally:
            os.chown(path, before, -1)

    @contextmanager
    def file(self, path: Path, data: bytes = b"x", *, mode: int = 0o600, age_s: float = 0) -> Iterator[Path]:
        path.write_bytes(data)
        path.chmod(mode)
        os.utime(path, (time.time() - age_s,) * 2)
        try:
            yield path
        finally:
            path.unlink()

    @contextmanager
    def spool_copy(self, change: Callable[[sqlite3.Connection], None] | None = None) -> Iterator[Path]:
        """The configuration names a copy of the daemon's spool, changed by SQL."""
        path = self.spool_dir / "copy.db"
        with sqlite3.connect(self.spool_dir / "spool.db") as source, sqlite3.connect(path) as copy:
            source.backup(copy)
            if change is not None:
                change(copy)
        copy.close()
        source.close()
        path.chmod(0o600)
        try:
            with self.edited(spool={"path": str(path)}):
                yield path
        finally:
            for left in self.spool_dir.glob("copy.db*"):
                left.unlink()


def fill(client: Any, *, days: int = 8) -> None:
    """Jobs of the last days, so that there is a rate."""
    with client:
        today = int(time.time()) // DAY_S
        for day in range(today - days, today):
            jobs = [job(day * 10_000 + n, end=day * DAY_S + n, name=f"n{n * day}") for n in range(JOBS_PER_DAY)]
            client.execute_command("SLURMJC.PUT", "job", "RECORDS", *jobs)


@contextmanager
def clinic() -> Iterator[Clinic]:
    with run_dir() as path, ExitStack() as stack:
        yield Clinic(path, stack)
