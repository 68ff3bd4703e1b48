#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""systemctl for a tree without systemd: start, stop, restart, reload, is-active of services, by what their units say.

Reads ExecStart, User, Environment files, StateDirectory and Type of a unit, makes the sockets of its socket units as
they say and passes them on, and waits until a service of Type=notify is ready. Nothing else of a unit has an effect.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

_UNITS = [Path("/etc/systemd/system"), Path("/usr/lib/systemd/system"), Path("/lib/systemd/system")]
_PIDS = Path("/run/started")
_READY_S = 60
_STOP_S = 60


class Unit:
    """A unit's settings, those of its drop-ins included; a key that stands twice has two values."""

    def __init__(self, name: str) -> None:
        self.name = name
        found = [path for where in _UNITS if (path := where / name).exists()]
        if not found:
            sys.exit(f"Unit {name} not found.")
        self.masked = found[0].resolve() == Path("/dev/null")
        self._settings: dict[str, list[str]] = {}
        for path in [found[0], *sorted(Path(f"/etc/systemd/system/{name}.d").glob("*.conf"))]:
            for line in path.read_text().splitlines():
                key, equals, value = line.partition("=")
                if equals and not line.startswith(("#", " ")):
                    self._settings.setdefault(key.strip(), []).append(value.strip())

    def all(self, key: str) -> list[str]:
        return self._settings.get(key, [])

    def one(self, key: str, default: str = "") -> str:
        return self.all(key)[-1] if self.all(key) else default

    @property
    def pid_file(self) -> Path:
        return _PIDS / f"{self.name}.pid"

    @property
    def log(self) -> Path:
        return Path(f"/var/log/{self.name}.log")

    def pid(self) -> int | None:
        """The process of a service that runs; one that only waits to be reaped doesn't."""
        try:
            pid = int(self.pid_file.read_text())
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, ValueError):
            return None
        return None if state == "Z" else pid

    def environment(self) -> dict[str, str]:
        settings = {}
        for name in self.all("EnvironmentFile"):
            with contextlib.suppress(OSError):
                for line in Path(name.lstrip("-")).read_text().splitlines():
                    key, equals, value = line.partition("=")
                    if equals and not line.startswith("#"):
                        settings[key.strip()] = value.strip().strip("\"'")
        return settings


def start(unit: Unit) -> None:
    if unit.pid():
        return
    _PIDS.mkdir(exist_ok=True)
    user = pwd.getpwnam(unit.one("User", "root"))
    for setting, parent in (("StateDirectory", "/var/lib"), ("RuntimeDirectory", "/run")):
        for name in unit.all(setting):
            directory = Path(parent, name)
            directory.mkdir(exist_ok=True)
            directory.chmod(int(unit.one(f"{setting}Mode", "0755"), 8))
            shutil.chown(directory, user.pw_uid, user.pw_gid)
    settings = unit.environment()
    words = shlex.split(re.sub(r"\$\{?(\w+)\}?", lambda found: settings.get(found[1], ""), unit.one("ExecStart")))
    sockets = _sockets(unit) if unit.name == "slurmjcd.service" else []
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify_path = _PIDS / f"{unit.name}.notify"
    notify_path.unlink(missing_ok=True)
    notify.bind(str(notify_path))
    notify_path.chmod(0o777)
    pid = os.fork()
    if pid == 0:
        _become(unit, user, words, settings, sockets, notify_path)
    unit.pid_file.write_text(str(pid))
    if unit.one("Type") == "notify":
        _wait_ready(unit, notify)
    elif unit.one("Type") == "forking":
        os.waitpid(pid, 0)
        unit.pid_file.write_text(Path(unit.one("PIDFile")).read_text())
    else:
        time.sleep(0.5)
    if not unit.pid():
        sys.exit(
            f"Job for {unit.name} failed because the control process exited with error code.\n"
            f"{unit.log.read_text()[-4000:]}"
        )


def _wait_ready(unit: Unit, notify: socket.socket) -> None:
    notify.settimeout(0.2)
    deadline = time.monotonic() + _READY_S
    while unit.pid():
        with contextlib.suppress(TimeoutError):
            if b"READY=1" in notify.recv(65536).split(b"\n"):
                return
        if time.monotonic() > deadline:
            sys.exit(f"Job for {unit.name} failed: not ready after {_READY_S} s.\n{unit.log.read_text()[-4000:]}")


def _become(
    unit: Unit,
    user: pwd.struct_passwd,
    words: list[str],
    settings: dict[str, str],
    sockets: list[tuple[str, socket.socket]],
    notify: Path,
) -> None:
    """Be the service; never returns."""
    os.setsid()
    log = os.open(unit.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number in (1, 2):
        os.dup2(log, number)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "NOTIFY_SOCKET": str(notify), **settings}
    if sockets:
        for number, (_, sock) in enumerate(sockets, 20):
            os.dup2(sock.fileno(), number)
        for number in range(len(sockets)):
            os.dup2(number + 20, number + 3)
        os.closerange(3 + len(sockets), 100)
        names = ":".join(name for name, _ in sockets)
        env |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": names}
    if user.pw_uid:
        os.initgroups(user.pw_name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    os.umask(int(unit.one("UMask", "0022"), 8))
    os.execve(words[0], words, env)


def _sockets(service: Unit) -> list[tuple[str, socket.socket]]:
    """Those that the service wants or requires, bound as their units say; their names go first."""
    made = []
    for name in shlex.split(" ".join([*service.all("Wants"), *service.all("Requires")])):
        if not name.endswith(".socket") or (unit := Unit(name)).masked:
            continue
        path = Path(unit.one("ListenStream"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        path.chmod(int(unit.one("SocketMode", "0666"), 8))
        shutil.chown(path, unit.one("SocketUser", "root"))
        sock.listen(int(unit.one("Backlog", "128")))
        made.append((unit.one("FileDescriptorName"), sock))
    return made


def stop(unit: Unit) -> None:
    pid = unit.pid()
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_S
    while unit.pid():
        if time.monotonic() > deadline:
            sys.exit(f"Job for {unit.name} timed out.")
        time.sleep(0.05)
    unit.pid_file.unlink()


def main(argv: list[str]) -> None:
    now = "--now" in argv
    verb, *names = [word for word in argv if not word.startswith("-")]
    units = [Unit(name if "." in name else f"{name}.service") for name in names]
    services = [unit for unit in units if unit.name.endswith(".service")]
    for unit in services:
        if verb in ("stop", "restart") or (verb == "disable" and now) or (verb == "try-restart" and unit.pid()):
            stop(unit)
        if verb in ("start", "restart") or (verb == "enable" and now):
            start(unit)
        if verb == "reload":
            subprocess.run(["kill", "-HUP", str(unit.pid())], check=True)
    if verb == "mask":
        for unit in units:
            Path("/etc/systemd/system", unit.name).symlink_to("/dev/null")
    elif verb in ("is-active", "status"):
        states = ["active" if unit.pid() else "inactive" for unit in services]
        print("\n".join(states))
        sys.exit(0 if set(states) == {"active"} else 3)
    elif verb not in ("start", "stop", "restart", "try-restart", "reload", "enable", "disable", "daemon-reload"):
        sys.exit(f"Unknown command verb {verb}.")


if __name__ == "__main__":
    main(sys.argv[1:])
