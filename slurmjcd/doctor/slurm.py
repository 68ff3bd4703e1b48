# SPDX-License-Identifier: MIT
"""slurm.conf, the plugin that it names and the installed Slurm: what would go wrong at slurmctld's next start."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from slurmjcd.config.checks import slurm_uid
from slurmjcd.config.settings import Config
from slurmjcd.doctor import Finding, fine, problem
from slurmjcd.errors import ConfigError
from slurmjcd.slurm.slurmconf import private_jobs, setting
from slurmjcd.slurm.slurmplugin import PLUGIN, find_plugins, plugin_version, slurm_version, version_text

# cplugin/params.c: options with a number and its bounds, with a word, and without a value
NUMBERS: Final = {"ring_mib": (1, 1024), "spill_mib": (0, 1048576), "timeout": (1, 3600)}
WORDS: Final = ("ring_dir", "daemon_user")
FLAGS: Final = ("store_script", "enable_job_finish", "enable_job_start")
_KEYS: Final = ("JobCompType", "JobCompLoc", "JobCompParams", "PluginDir", "SlurmUser", "StateSaveLocation")
_RING_DIR: Final = Path("/run/slurmjcd-ring")
_LEFT_S: Final = 600  # a spill file is sent before all else once there is a daemon


def look(config: Config) -> Iterator[Finding]:
    """All of it; on a node where this daemon takes no records nobody needs a plugin that fits, but for sacct."""
    conf = config.access.slurm_conf
    try:
        said = {key: setting(conf, key) for key in _KEYS}
    except OSError as exc:
        text = f"{conf} can't be read ({exc.strerror or exc}): neither it nor the plugin was looked at"
        yield problem("slurm-conf-unreadable", text, f'[access] slurm_conf = "<path>" in slurmjcd.toml, now {conf}')
        return
    ours = (said["JobCompType"] or "").lower() == "jobcomp/redis"
    yield from _settings(config, conf, said, ours=ours)
    yield from _plugin(conf, said)
    if "ingest" in config.daemon.roles:
        yield from _left_behind(said)


def _settings(config: Config, conf: Path, said: dict[str, str | None], *, ours: bool) -> Iterator[Finding]:
    found = []
    if not ours:
        text = f"{conf}: JobCompType is {said['JobCompType'] or 'not set'}: slurmctld gives no job to slurmjcd"
        found.append(problem("jobcomp-type", text, f"JobCompType=jobcomp/redis in {conf}; then restart slurmctld"))
    where = config.query_socket.parent
    if ours and Path(said["JobCompLoc"] or "/run/slurmjcd") != where:
        text = f"{conf}: JobCompLoc is {said['JobCompLoc'] or 'not set'}, but slurmjcd's sockets are in {where}"
        found.append(problem("jobcomp-loc", text, f"JobCompLoc={where} in {conf}; then scontrol reconfigure"))
    if ours:
        found += [
            problem("jobcomp-params", f"{conf}: JobCompParams: {what}", f"JobCompParams: {fix}; then restart slurmctld")
            for what, fix in params(said["JobCompParams"] or "")
        ]
    slurm_user = said["SlurmUser"] or "root"
    ours_too = _uid(config.daemon.slurm_user)  # where it is nobody's, that is a finding of the configuration
    if "ingest" in config.daemon.roles and isinstance(ours_too, int) and _uid(slurm_user) != ours_too:
        text = f"{conf}: SlurmUser is {slurm_user}, but daemon.slurm_user is {config.daemon.slurm_user}: "
        text += "slurmjcd refuses slurmctld"
        found.append(problem("slurm-user", text, f'[daemon] slurm_user = "{slurm_user}" in slurmjcd.toml'))
    yield from found
    if not found:
        yield fine("slurm", f"{conf}: JobCompType, JobCompLoc, JobCompParams and SlurmUser are right")


def _uid(name: str) -> int | str:
    """The uid of a user by name or number; a name that nobody has stays one."""
    try:
        return slurm_uid(Config.model_validate({"daemon": {"slurm_user": name}}))
    except ConfigError:
        return name


def params(text: str) -> Iterator[tuple[str, str]]:
    """What is wrong in a JobCompParams line, as the plugin reads it, and what would be right."""
    seen = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        if key in seen:
            yield f"{key} is there more than once, the last one counts", f"leave one {key}="
        seen.add(key)
        if key in NUMBERS:
            low, high = NUMBERS[key]
            if not (value.isascii() and value.isdigit() and low <= int(value[:12]) <= high):
                yield f"{part}: not a number from {low} to {high}, the default counts", f"{key}=<{low} to {high}>"
        elif key == "ring_dir":
            if not value.startswith("/"):
                yield f"{part}: not an absolute path", f"ring_dir={_RING_DIR}"
        elif key == "daemon_user":
            if not value or isinstance(_uid(value), str):
                yield f"{part}: there is no such user here, so no socket is trusted", "daemon_user=slurmjcd"
        elif key not in FLAGS:
            known = ", ".join([*(f"{name}=" for name in (*NUMBERS, *WORDS)), FLAGS[0]])
            yield f"unknown option {part}", f"one of {known}"
        elif equals:
            yield f"{part}: {key} takes no value", key


def _plugin(conf: Path, said: dict[str, str | None]) -> Iterator[Finding]:
    plugins = find_plugins(said["PluginDir"])
    if not plugins:
        text = f"there is no {PLUGIN} in PluginDir={said['PluginDir'] or '(default)'}: slurmctld would not start"
        directory = (said["PluginDir"] or "/usr/lib/x86_64-linux-gnu/slurm-wlm").split(":")[0]
        yield problem("plugin-missing", text, f"install -m 755 build/cmake/cplugin/{PLUGIN} {directory}/")
        return
    for path in plugins:
        status = path.stat()
        if status.st_mode & (stat.S_IWOTH | stat.S_IWGRP) or status.st_uid != 0:
            text = f"{path}: mode {stat.S_IMODE(status.st_mode):04o}, uid {status.st_uid}: not only root can change "
            text += "what slurmctld and every sacct load"
            yield problem("plugin-writable", text, f"chown root:root {path} && chmod 755 {path}")
    try:
        installed = slurm_version(conf)
    except ConfigError as exc:
        text, _, _ = str(exc).partition(": ")
        yield problem("slurm-unknown", text, "run slurmjc doctor where slurmctld or sacct is installed")
        return
    built = {}
    for path in plugins:
        try:
            built[path] = plugin_version(path)
        except ConfigError as exc:
            yield problem("plugin-damaged", f"{exc}: slurmctld would not load it", f"install {path} again")
    fits = [path for path, version in built.items() if version == installed]
    if fits:  # Slurm goes on to the next directory when it refuses what is in one
        yield fine("slurm", f"{fits[0]} is built for the installed Slurm {version_text(installed)}")
        return
    for path, version in built.items():
        text = f"{path} is built for Slurm {version_text(version)}, but {version_text(installed)} is installed: "
        text += "slurmctld refuses it at its next start"
        fix = f"make plugin SLURM_SOURCE=<sources of {version_text(installed)}> && "
        fix += f"install -m 755 build/cmake/cplugin/{PLUGIN} {path}; only then restart slurmctld"
        yield problem("plugin-version", text, fix)


def _left_behind(said: dict[str, str | None]) -> Iterator[Finding]:
    """Spill files that nobody sends, and files that were set aside as damaged."""
    params_said = (said["JobCompParams"] or "").split(",")
    ring_dirs = [Path(part[len("ring_dir=") :]) for part in params_said if part.startswith("ring_dir=/")] or [_RING_DIR]
    state = Path(said["StateSaveLocation"] or "/var/spool")
    try:
        spills = [path for path in sorted(state.glob("jobcomp_redis.*.spill")) if _old(path)]
        damaged = [path for where in (state, *ring_dirs) for path in sorted(where.glob("*.damaged-*"))]
    except PermissionError as exc:
        yield problem("not-allowed", f"{exc.filename}: {exc.strerror}", "run slurmjc doctor as root")
        return
    for path in spills:
        text = f"{path}: records of {_when(path)} that slurmctld has not handed over since"
        yield problem(
            "spill-left", text, f"start slurmctld with JobCompType=jobcomp/redis and StateSaveLocation={state}"
        )
    for path in damaged:
        text = f"{path} was set aside as damaged on {_when(path)}; its records that could be read were sent"
        yield problem("set-aside", text, f"slurmjc audit says what is missing; then mv {path} elsewhere")
    if not spills and not damaged:
        yield fine("delivery", f"nothing was left behind in {state}")


def _old(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > _LEFT_S


def _when(path: Path) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(path.stat().st_mtime))


def privacy(config: Config) -> Iterator[Finding]:
    """Who sees whose jobs, beside what slurm.conf says of it."""
    yield from _operators(config)
    own, conf = config.access.private_data, config.access.slurm_conf
    readable = os.access(conf, os.R_OK)
    if own == "slurm" and not readable:
        text = f"{conf} can't be read, so users see their own jobs only, whatever PrivateData says"
        yield problem("private-data-unknown", text, f'[access] slurm_conf = "<path>" in slurmjcd.toml, now {conf}')
    elif own == "slurm":
        yield fine("privacy", f"users see {'their own' if private_jobs(conf) else 'all'} jobs: PrivateData of {conf}")
    elif own is False and readable and private_jobs(conf):
        text = f"users see all jobs (access.private_data), but PrivateData of {conf} says their own only"
        yield problem("private-data-weaker", text, '[access] private_data = "slurm" in slurmjcd.toml')
    else:
        yield fine("privacy", f"users see {'their own' if own else 'all'} jobs: access.private_data")


def _operators(config: Config) -> Iterator[Finding]:
    access = config.access
    lists = {"operators": access.operators} | {f"coordinators.{name}": who for name, who in access.coordinators.items()}
    for key, names in lists.items():
        for name in names:
            kind, known = ("group", _is_group(name[1:])) if name.startswith("%") else ("user", _is_user(name))
            if not known:
                text = f"access.{key}: there is no {kind} '{name.removeprefix('%')}' here"
                yield problem("operator-unknown", text, f"take '{name}' out of {key} under [access] in slurmjcd.toml")


def _is_group(name: str) -> bool:
    try:
        return bool(grp.getgrnam(name))
    except KeyError:
        return False


def _is_user(name: str) -> bool:
    try:
        return name.isdigit() or bool(pwd.getpwnam(name))
    except KeyError:
        return False
