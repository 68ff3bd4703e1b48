# SPDX-License-Identifier: MIT
"""Whether slurmctld will load our plugin at its next start: found where it looks, and built for its very version."""

from __future__ import annotations

import glob
import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final

from slurmjcd.config.settings import Config
from slurmjcd.errors import ConfigError
from slurmjcd.slurm.slurmconf import setting

PLUGIN: Final = "jobcomp_redis.so"
# where packages put Slurm's plugins, for a slurm.conf without PluginDir
_PLUGIN_DIRS: Final = (
    "/usr/lib/*/slurm-wlm",
    "/usr/lib/*/slurm",
    "/usr/lib64/slurm",
    "/usr/lib/slurm",
    "/usr/local/lib/slurm",
)
_VERSION_S: Final = 10
_SHT_DYNSYM: Final = 11


def check_slurm(config: Config) -> str:
    """Compare slurm.conf, the plugin that it names, and the installed Slurm.

    Returns:
        One line that says what was found.

    Raises:
        ConfigError: one line for each thing that keeps slurmctld from starting or from delivering to this daemon.
    """
    conf = config.access.slurm_conf
    try:
        kind, location, directories = (setting(conf, key) for key in ("JobCompType", "JobCompLoc", "PluginDir"))
    except OSError as exc:
        raise ConfigError(f"access.slurm_conf: {conf} can't be read: {exc.strerror or exc}") from exc
    problems = []
    if (kind or "").lower() != "jobcomp/redis":
        problems.append(f"{conf}: JobCompType is {kind or 'not set'}: set JobCompType=jobcomp/redis")
    sockets = config.query_socket.parent
    if Path(location or "/run/slurmjcd") != sockets:
        problems.append(f"{conf}: JobCompLoc is {location or 'not set'}, but the sockets are in {sockets}: name that")
    plugins = find_plugins(directories)
    if not plugins:
        problems.append(f"{conf}: there is no {PLUGIN} in PluginDir={directories or '(default)'}: install it there")
    installed = slurm_version(conf)
    # Slurm goes on to the next directory when it refuses what is in one
    built = {path: plugin_version(path) for path in plugins}
    fits = [path for path in plugins if built[path] == installed]
    if not fits:
        there = version_text(installed)
        problems += [
            f"{path} is built for Slurm {version_text(built[path])}, but {there} is installed: its slurmctld "
            "refuses it, and doesn't start or loses every job's record: build it again"
            for path in plugins
        ]
    if problems:
        raise ConfigError("\n".join(problems))
    return f"{fits[0]}: built for the installed Slurm {version_text(installed)}"


def slurm_version(conf: Path) -> tuple[int, int, int]:
    """Year, month and patch of the installed Slurm: slurmctld's, or sacct's where there is no slurmctld.

    Raises:
        ConfigError: neither says it.
    """
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/usr/bin"
    for name in ("slurmctld", "sacct"):
        program = shutil.which(name, path=path)
        if program is None:
            continue
        env = {**os.environ, "SLURM_CONF": str(conf)}
        try:
            done = subprocess.run(
                [program, "-V"], env=env, capture_output=True, text=True, timeout=_VERSION_S, check=False
            )
            year, month, patch = done.stdout.split()[-1].split("-")[0].split(".")
            return int(year), int(month), int(patch)
        except (OSError, subprocess.TimeoutExpired, IndexError, ValueError):
            continue
    raise ConfigError("neither slurmctld -V nor sacct -V says which Slurm is installed: run this where slurmctld runs")


def plugin_version(plugin: Path) -> tuple[int, int, int]:
    """The release a plugin is built for: its symbol plugin_version, which is what Slurm compares.

    Raises:
        ConfigError: it is no 64-bit little-endian library with that symbol.
    """
    try:
        number = _symbol_u32(plugin.read_bytes(), b"plugin_version")
    except OSError as exc:
        raise ConfigError(f"{plugin} can't be read: {exc.strerror or exc}") from exc
    except (struct.error, LookupError, ValueError) as exc:
        raise ConfigError(f"{plugin} is no Slurm plugin: {exc}") from exc
    return number >> 16 & 0xFF, number >> 8 & 0xFF, number & 0xFF


def find_plugins(directories: str | None) -> list[Path]:
    """Our plugin in the directories of PluginDir, or where packages put it, in the order that Slurm looks."""
    places = directories.split(":") if directories else [path for where in _PLUGIN_DIRS for path in glob.glob(where)]
    return [path for place in places if (path := Path(place, PLUGIN)).is_file()]


def _symbol_u32(elf: bytes, name: bytes) -> int:
    """The 32-bit number that a dynamic symbol of an ELF file names (elf(5))."""
    if elf[:6] != b"\x7fELF\x02\x01":
        raise ValueError("it is no 64-bit little-endian ELF file")
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    size, count = struct.unpack_from("<HH", elf, 0x3A)
    # sh_name, sh_type, sh_flags, sh_addr, sh_offset, sh_size, sh_link, sh_info, sh_addralign, sh_entsize
    sections = [struct.unpack_from("<IIQQQQIIQQ", elf, table + number * size) for number in range(count)]
    for _, kind, _, _, at, length, strings, _, _, entry in sections:
        if kind != _SHT_DYNSYM or not entry:
            continue
        for symbol in range(at, at + length, entry):
            st_name, _, _, section, value, _ = struct.unpack_from("<IBBHQQ", elf, symbol)
            start = sections[strings][4] + st_name
            if elf[start : start + len(name) + 1] == name + b"\0" and section:
                return int(struct.unpack_from("<I", elf, sections[section][4] + value - sections[section][3])[0])
    raise LookupError(f"it has no symbol {name.decode()}")


def version_text(version: tuple[int, int, int]) -> str:
    """As Slurm writes it."""
    return f"{version[0]}.{version[1]:02}.{version[2]}"
