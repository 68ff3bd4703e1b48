# SPDX-License-Identifier: MIT
"""Runs a program as slurmjcd.service has it run, where no systemd does: sandbox.py UNIT [WRITABLE ...] -- COMMAND ...

Reads the unit and does, for each setting that is there, what systemd does: the same lists of system calls (those that
systemd-analyze prints), the same checks of their arguments, a file system that is read-only but for the directories
named, no network but loopback, no capabilities. x86-64 only. Needs root, and stays root without any privilege.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import resource
import socket
import struct
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_NUMBERS: Final = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
_ARCHITECTURE: Final = 0xC000003E
_LOAD, _AND, _EQUAL, _ANY, _RETURN = 0x20, 0x54, 0x15, 0x45, 0x06
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_NR, _ARCH = 0, 4
_NAMESPACES: Final = 0x7E020000  # every CLONE_NEW* but CLONE_NEWTIME
_FAMILIES: Final = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}
_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _PR_CAPBSET_DROP = 38, 22, 24
_libc = ctypes.CDLL(None, use_errno=True)


class Unit:
    """The settings of a unit's [Service] section; a key that stands twice has two values."""

    def __init__(self, text: str) -> None:
        self._settings: dict[str, list[str]] = {}
        for line in text.splitlines():
            name, equals, value = line.partition("=")
            if equals and not line.startswith(("#", " ")):
                self._settings.setdefault(name, []).append(value.strip())

    def all(self, name: str) -> list[str]:
        return self._settings.get(name, [])

    def on(self, name: str) -> bool:
        return self.all(name)[-1:] == ["yes"]


# ---- system calls ----------------------------------------------------------------------------------------------------


def _group(name: str, known: dict[str, set[str]]) -> set[str]:
    """The calls of a group such as @system-service, those of the groups in it included."""
    if name not in known:
        out = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
        known[name] = set()
        for word in re.findall(r"^    ([@\w-]+)$", re.sub(r"\x1b\[[0-9;]*m", "", out.stdout), re.MULTILINE):
            known[name] |= _group(word, known) if word.startswith("@") else {word}
    return known[name]


def allowed_calls(unit: Unit) -> set[str] | None:
    """What SystemCallFilter= leaves; None when there is none."""
    lines, known = unit.all("SystemCallFilter"), dict[str, set[str]]()
    if not lines:
        return None
    allowed: set[str] = set()
    for line in lines:
        calls = set().union(
            *(_group(word, known) if word.startswith("@") else {word} for word in line.removeprefix("~").split())
        )
        allowed = allowed - calls if line.startswith("~") else allowed | calls
    # systemd adds these, for without them nothing starts
    return allowed | _group("@default", known) | {"execve", "exit", "exit_group", "rt_sigreturn"}


Instruction = tuple[int, int, int, int]


def _argument(number: int) -> int:
    return 16 + 8 * number


def _refuse(code: int) -> Instruction:
    return (_RETURN, 0, 0, _ERRNO | code)


def _when(call: int, block: list[Instruction]) -> list[Instruction]:
    return [(_LOAD, 0, 0, _NR), (_EQUAL, 0, len(block), call), *block]


def _refuse_bits(argument: int, bits: int, code: int = errno.EPERM) -> list[Instruction]:
    return [(_LOAD, 0, 0, _argument(argument)), (_ANY, 0, 1, bits), _refuse(code), (_RETURN, 0, 0, _ALLOW)]


def program(unit: Unit) -> list[Instruction]:
    """The filter, as instructions of classic BPF."""
    text = _NUMBERS.read_text()
    numbers = {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", text)}
    code: list[Instruction] = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, _ARCHITECTURE), _refuse(errno.EPERM)]
    families = unit.all("RestrictAddressFamilies")
    if families:
        block: list[Instruction] = [(_LOAD, 0, 0, _argument(0))]
        for family in families[-1].split():
            block += [(_EQUAL, 0, 1, _FAMILIES[family]), (_RETURN, 0, 0, _ALLOW)]
        code += _when(numbers["socket"], [*block, _refuse(errno.EAFNOSUPPORT)])
    if unit.on("MemoryDenyWriteExecute"):
        both = [(_LOAD, 0, 0, _argument(2)), (_AND, 0, 0, 6), (_EQUAL, 0, 1, 6), _refuse(errno.EPERM)]
        code += _when(numbers["mmap"], [*both, (_RETURN, 0, 0, _ALLOW)])
        code += _when(numbers["mprotect"], _refuse_bits(2, 4))
    if unit.on("RestrictSUIDSGID"):
        for name, argument in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2)):
            code += _when(numbers[name], _refuse_bits(argument, 0o6000))
    if unit.on("RestrictNamespaces"):
        code += _when(numbers["clone"], _refuse_bits(0, _NAMESPACES))
        code += _when(numbers["unshare"], _refuse_bits(0, _NAMESPACES))
        code += _when(numbers["clone3"], [_refuse(errno.ENOSYS)])
    allowed = allowed_calls(unit)
    code.append((_LOAD, 0, 0, _NR))
    if allowed is None:
        return [*code, (_RETURN, 0, 0, _ALLOW)]
    for number in sorted(numbers[name] for name in allowed if name in numbers):
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    return [*code, _refuse(errno.EPERM)]


def filter_calls(code: list[Instruction]) -> None:
    """From here on, for this process and what it starts."""
    raw = b"".join(struct.pack("HBBI", *instruction) for instruction in code)
    buffer = ctypes.create_string_buffer(raw)
    _check(_libc.prctl(_PR_SET_SECCOMP, 2, struct.pack("HxxxxxxP", len(code), ctypes.addressof(buffer)), 0, 0))


# ---- files, network, privileges --------------------------------------------------------------------------------------


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def isolate(unit: Unit, writable: Iterable[str]) -> None:
    """A file system and a network of its own."""
    deny = unit.all("IPAddressDeny")[-1:] == ["any"]
    _check(_libc.unshare(_CLONE_NEWNS | (_CLONE_NEWNET if deny else 0)))
    if deny:
        with socket.socket() as sock:  # loopback up
            fcntl.ioctl(sock, 0x8914, struct.pack("16sh22x", b"lo", 0x41))

    def mount(*words: str) -> None:
        subprocess.run(["mount", *words], check=True, capture_output=True)

    mount("--make-rprivate", "/")
    kept = [os.path.realpath(path) for path in writable]
    for path in kept:
        mount("--bind", path, path)
    if unit.all("ProtectSystem")[-1:] != ["strict"]:
        return
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in sorted(set(points), key=len, reverse=True):
        if point not in kept and not point.startswith(("/dev", "/proc", "/sys")):
            subprocess.run(["mount", "-o", "remount,bind,ro", point], check=False, capture_output=True)


def drop_privileges(unit: Unit) -> None:
    """Limits, capabilities, no_new_privs."""
    for setting, limit in (("LimitNOFILE", resource.RLIMIT_NOFILE), ("LimitCORE", resource.RLIMIT_CORE)):
        for value in unit.all(setting):
            resource.setrlimit(limit, (int(value), int(value)))
    if unit.all("CapabilityBoundingSet")[-1:] == [""]:
        last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
        for capability in range(last + 1):
            _check(_libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0))
    if unit.on("NoNewPrivileges"):
        _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def main(argv: list[str]) -> None:
    at = argv.index("--")
    unit = Unit(Path(argv[0]).read_text())
    code = program(unit)
    isolate(unit, argv[1:at])
    drop_privileges(unit)
    filter_calls(code)
    os.execvp(argv[at + 1], argv[at + 1 :])


if __name__ == "__main__":
    main(sys.argv[1:])
