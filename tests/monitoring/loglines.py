# SPDX-License-Identifier: MIT
"""Every line that daemon, plugin and module can log at warning or above, read from their source.

A line is its level and its text, with … for what is filled in. Where the text comes from elsewhere (`why`), the places
that write it are read instead.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.harness import ROOT

Line = tuple[str, str]

_CONVERSION: Final = re.compile(r"%[-+ #0]*(?:\d+|\*)?(?:\.(?:\d+|\*))?(?:hh|h|ll|l|z|j)?[diouxXeEfgGscpr]")
_PYTHON_LEVELS: Final = {"warning": "warning", "error": "error", "exception": "error", "critical": "critical"}
_ONLY_FILLED: Final = re.compile(r"[…:\s]*")


def filled(text: str) -> str:
    """A format with … for each conversion."""
    return _CONVERSION.sub("…", text).replace("%%", "%")


# ---- Python ------------------------------------------------------------------------------------------------------


def _text(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return filled(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or "…" for part in node.values)
    return None


def _name_of(owner: ast.expr) -> str:
    """What a method is called of: log, or self._log."""
    return owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""


def _python(path: Path) -> Iterator[Line]:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner, name = node.func.value, node.func.attr
            if name == "_warn" and len(node.args) > 1:  # the intake's own, which says whose line it is
                yield "warning", f"intake: {_text(node.args[1])}"
            elif name in _PYTHON_LEVELS and _name_of(owner) in ("log", "_log", "logger", "logging"):
                text = _text(node.args[0])
                assert text is not None, f"{path}:{node.lineno}: a line whose text nobody can find"
                yield _PYTHON_LEVELS[name], text
        elif isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Attribute) and target.attr == "msg" for target in node.targets
        ):
            yield "warning", _text(node.value) or ""  # a filter's, instead of a library's


def daemon_lines() -> set[Line]:
    """Of slurmjcd; not of slurmjc, which runs where somebody reads its errors."""
    found: set[Line] = set()
    for path in sorted((ROOT / "slurmjcd").rglob("*.py")):
        if "client" not in path.parts:
            found |= set(_python(path))
    return found - {("warning", "intake: …")}


# ---- C -----------------------------------------------------------------------------------------------------------

_NOT_LOGGED: Final = {"ring … is empty", "ring … was replaced meanwhile"}  # of rings that the next name is tried for
_TOKEN: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|(PRI\w+)|\s+|([,)])')


def _formats(source: str, names: str, before: str) -> Iterator[tuple[str, str]]:
    """Name and format of each call; `before` matches the arguments in front of the format."""
    for call in re.finditer(rf"(?<![\w>.])({names})\s*\(\s*{before}", source):
        text, at = "", call.end()
        while (token := _TOKEN.match(source, at)) is not None and token[3] is None:
            text += (token[1] or "").encode().decode("unicode_escape") if token[1] else "d" if token[2] else ""
            at = token.end()
        if text:
            yield call[1], filled(text)


def _sources(directory: str) -> Iterator[str]:
    for path in sorted((ROOT / directory).rglob("*.c")):
        yield path.read_text()


def plugin_lines() -> set[Line]:
    """Of jobcomp_redis.so, without the `jobcomp/redis: ` before each."""
    found: set[Line] = set()
    for source in _sources("cplugin"):
        found |= {("error", text) for _, text in _formats(source, "plog_error|error", "")}
        found |= {("fatal", text) for _, text in _formats(source, "fatal", "")}
        # what `plog_error("%s", why)` says
        if re.search(r"char \*why,\s*size_t", source):
            found |= {("error", text) for _, text in _formats(source, "snprintf", r"why,[^,\"]*,\s*")}
    bare = {(level, re.sub(r"^(?:jobcomp/redis|…): ", "", text)) for level, text in found}
    assert {text for _, text in bare} >= _NOT_LOGGED
    bare = {(level, text) for level, text in bare if text not in _NOT_LOGGED}
    return {line for line in bare if not _ONLY_FILLED.fullmatch(line[1])}


def module_lines() -> set[Line]:
    """Of slurm_jobcomp.so, in the server's log."""
    logs = r"RedisModule_Log(?:IOError)?"
    return {
        ("warning", text)
        for source in _sources("redis_module")
        for _, text in _formats(source, logs, r"[\w>.-]+,\s*\"warning\",\s*")
    }
