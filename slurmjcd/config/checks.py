# SPDX-License-Identifier: MIT
"""Whether the machine is as the configuration needs it: users, directories, secrets. Each finding says the fix."""

from __future__ import annotations

import importlib.util
import os
import pwd
import stat
from pathlib import Path

from slurmjcd.config.settings import Config
from slurmjcd.errors import ConfigError

SECRET_MAX_BYTES = 4096


def check_machine(config: Config) -> None:
    """Raise ConfigError with one line for each thing that would keep the daemon from working."""
    problems: list[str] = []
    for check in (_check_users, _check_directories, _check_secrets, about_cold):
        problems.extend(check(config))
    if problems:
        raise ConfigError("\n".join(problems))


def slurm_uid(config: Config) -> int:
    """The uid of daemon.slurm_user.

    Raises:
        ConfigError: there is no such user.
    """
    name = config.daemon.slurm_user
    if name.isdigit():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ConfigError(
            f"daemon.slurm_user: there is no user '{name}' here: set it to SlurmUser of slurm.conf"
        ) from None


def read_secret(key: str, path: Path) -> str:
    """The password in a file that nobody but its owner (and root) may read; without its line end.

    Raises:
        ConfigError: it can't be read, is empty, or others may read it.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            raw = file.read(SECRET_MAX_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"{key}: {path} can't be read: {exc.strerror}") from exc
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{key}: {path} is not a regular file")
    if status.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise ConfigError(f"{key}: others than its owner may read or change {path}: chmod 600 {path}")
    secret = raw.strip(b"\r\n")
    if not secret or len(raw) > SECRET_MAX_BYTES:
        raise ConfigError(f"{key}: {path} must hold one password of 1 to {SECRET_MAX_BYTES} bytes")
    return secret.decode("utf-8", "surrogateescape")


def secret_path(path: Path | None, credential: str) -> Path | None:
    """Where a secret lies: the configured file, or systemd's credential of that name (LoadCredential=), or nowhere."""
    if path is not None:
        return path
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    candidate = Path(directory) / credential if directory else None
    return candidate if candidate is not None and candidate.exists() else None


def _check_users(config: Config) -> list[str]:
    try:
        slurm_uid(config)
    except ConfigError as exc:
        return [str(exc)]
    return []


def _check_directories(config: Config) -> list[str]:
    wanted = {"ingest.socket": config.ingest_socket.parent} if "ingest" in config.daemon.roles else {}
    if "query" in config.daemon.roles:
        wanted["query.socket"] = config.query_socket.parent
    if "ingest" in config.daemon.roles:
        wanted["spool.path"] = config.spool_path.parent
    if config.embedded_used:
        # the daemon makes embedded.dir itself, in a directory that must be there
        directory = config.embedded_dir
        wanted["embedded.dir"] = directory if directory.exists() else directory.parent
    keys: dict[Path, str] = {}
    for key, path in wanted.items():
        keys[path] = f"{keys[path]}, {key}" if path in keys else key
    return [problem for path, key in keys.items() if (problem := _directory_problem(key, path))]


def about_cold(config: Config) -> list[str]:
    """Of [cold]: the library, the engine, the directory."""
    directory = config.cold.dir
    if directory is None:
        return []
    problems = []
    if importlib.util.find_spec("pyarrow") is None:
        problems.append(
            "cold.dir: files of older days need pyarrow: pip install 'slurmjcd[parquet]' (or pip install pyarrow) into "
            "the environment of slurmjcd, or leave cold.dir out"
        )
    if not os.access(config.cold.engine, os.R_OK):
        problems.append(f"cold.engine: {config.cold.engine} can't be read: install slurmjc_engine.so, or set its path")
    if "ingest" in config.daemon.roles:
        problem = _directory_problem("cold.dir", directory)
        return [*problems, problem] if problem else problems
    if not os.access(directory, os.R_OK | os.X_OK):
        problems.append(f"cold.dir: uid {os.geteuid()} can't read directory {directory}")
    return problems


def _directory_problem(key: str, path: Path) -> str | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return f"{key}: directory {path} doesn't exist: mkdir -p {path}"
    except OSError as exc:
        return f"{key}: directory {path} can't be reached: {exc.strerror}"
    if not stat.S_ISDIR(status.st_mode):
        return f"{key}: {path} is not a directory"
    if not os.access(path, os.W_OK | os.X_OK):
        return f"{key}: uid {os.geteuid()} may not write to directory {path}: chown it to the daemon's user"
    if status.st_mode & stat.S_IWOTH:
        return f"{key}: everyone may write to directory {path}, so anyone could replace what is in it: chmod o-w {path}"
    return None


def _check_secrets(config: Config) -> list[str]:
    problems = []
    redis = config.redis
    for key, path in (
        ("redis.password_file", redis.password_file),
        ("redis.reader_password_file", redis.reader_password_file),
        ("redis.sentinel_password_file", redis.sentinel_password_file),
        ("intake.token_file", config.intake.token_file),
        ("health.token_file", config.health.token_file),
    ):
        if path is None:
            continue
        try:
            read_secret(key, path)
        except ConfigError as exc:
            problems.append(str(exc))
    for key, path in (("redis.tls_ca_file", redis.tls_ca_file), ("redis.tls_cert_file", redis.tls_cert_file)):
        if path is not None and not os.access(path, os.R_OK):
            problems.append(f"{key}: {path} can't be read")
    key_file = redis.tls_key_file
    if key_file is not None:
        if not os.access(key_file, os.R_OK):
            problems.append(f"redis.tls_key_file: {key_file} can't be read")
        elif key_file.stat().st_mode & stat.S_IRWXO:
            problems.append(f"redis.tls_key_file: others may read {key_file}: chmod 600 {key_file}")
    return problems
