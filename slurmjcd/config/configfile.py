# SPDX-License-Identifier: MIT
"""Reads the configuration: TOML file, then environment, then judged by settings.py. Problems become one ConfigError."""

from __future__ import annotations

import difflib
import json
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from slurmjcd.config.settings import Config
from slurmjcd.errors import ConfigError

DEFAULT_PATH: Final = Path("/etc/slurmjcd/slurmjcd.toml")
ENV_PREFIX: Final = "SLURMJCD_"
_FILE_MAX_BYTES: Final = 1024 * 1024
_LINE_MAX: Final = 1000  # characters of an error
_TOO_DEEP: Final = "arrays or tables lie too deep in each other"
_CONTROL: Final = re.compile("[\0-\x1f\x7f\ud800-\udfff]")


def load(path: Path | None, env: Mapping[str, str]) -> Config:
    """The configuration of file and environment.

    Args:
        path: the file; None means the default one, which may be missing.
        env: `SLURMJCD_<SECTION>__<KEY>` overrides the file.

    Raises:
        ConfigError: with one line for each problem.
    """
    where = path or DEFAULT_PATH
    data = {} if path is None and not where.exists() else _read(where)
    for section, value in data.items():
        if not isinstance(value, dict) and section in Config.model_fields:
            raise ConfigError(f"{where}: '{section}' must be a section: write [{section}] and its keys below it")
    _apply_environment(data, env)
    return _validate(data, str(where) if data or path else "built-in defaults")


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            _check_permissions(path, os.fstat(file.fileno()))
            raw = file.read(_FILE_MAX_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"{path}: can't be read: {exc.strerror}") from exc
    if len(raw) > _FILE_MAX_BYTES:
        raise ConfigError(f"{path}: longer than {_FILE_MAX_BYTES} bytes, this is no configuration of slurmjcd")
    try:
        return tomllib.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: byte {exc.start} is not UTF-8: save the file as UTF-8") from exc
    except RecursionError as exc:
        raise ConfigError(f"{path}: not TOML: {_TOO_DEEP}") from exc
    except ValueError as exc:  # tomllib's own, and that of a number with thousands of digits
        raise ConfigError(f"{path}: not TOML: {_plain(str(exc))}") from exc


def _plain(text: str) -> str:
    """A text on one line that is not too long, whatever was in the file."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)
    return shown if len(shown) <= _LINE_MAX else shown[:_LINE_MAX] + "…"


def _check_permissions(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{path}: is not a regular file")
    if status.st_mode & stat.S_IWOTH:
        raise ConfigError(f"{path}: everyone may write to it: chmod o-w {path}")
    if status.st_uid not in (0, os.geteuid()):
        raise ConfigError(f"{path}: belongs to uid {status.st_uid}: chown root {path}")


def _apply_environment(data: dict[str, Any], env: Mapping[str, str]) -> None:
    for name in sorted(env):
        if not name.startswith(ENV_PREFIX) or "__" not in name:
            continue
        section, _, key = name.removeprefix(ENV_PREFIX).lower().partition("__")
        table = data.setdefault(section, {})
        if not isinstance(table, dict):
            raise ConfigError(_plain(f"{name}: '{section}' is not a section"))
        table[key] = _environment_value(env[name])


def _environment_value(text: str) -> Any:
    """A value as TOML would read it; what isn't TOML is a string (so paths and names need no quotes)."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _validate(data: dict[str, Any], where: str) -> Config:
    try:
        _check_texts(data, where)
        # through JSON, because strict there still takes a string for a path and an integer for a float
        return Config.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as exc:
        lines = [_plain(f"{where}: {_explain(detail)}") for detail in exc.errors(include_url=False)]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from exc
    except RecursionError as exc:
        raise ConfigError(f"{where}: {_TOO_DEEP}") from exc
    except ValueError as exc:  # json's, of a number with thousands of digits
        raise ConfigError(f"{where}: {_plain(str(exc))}") from exc


def _check_texts(value: Any, where: str, key: str = "") -> None:
    """No name, path or address has control characters; what comes from the environment may not even be UTF-8."""
    if isinstance(value, str) and _CONTROL.search(value):
        text = f"control characters, or bytes that are no UTF-8, in '{value}'"
        raise ConfigError(_plain(f"{where}: {key}: {text}" if key else f"{where}: {text}"))
    if isinstance(value, dict):
        for name, part in value.items():
            _check_texts(name, where, key)
            _check_texts(part, where, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for part in value:
            _check_texts(part, where, key)


def _explain(detail: ErrorDetails) -> str:
    location = [str(part) for part in detail["loc"]]
    if detail["type"] == "extra_forbidden":
        return _explain_unknown(location)
    text = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    # the branches of a union and the functions of a validator are no part of the key's name
    key = ".".join(part for part in location if part.isidentifier() and part not in ("bool", "str", "none"))
    return f"{key}: {text}" if key else text


def _explain_unknown(location: list[str]) -> str:
    model: type[BaseModel] = Config
    for part in location[:-1]:
        annotation = model.model_fields[part].annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, BaseModel)
        model = annotation
    kind = "section" if len(location) == 1 else "key"
    known = list(model.model_fields)
    near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
    if home := _section_with(location[-1]):
        hint = f"it belongs into [{home}]"
    elif near:
        hint = f"did you mean '{'.'.join([*location[:-1], near[0]])}'?"
    else:
        hint = f"known here: {', '.join(known)}"
    return f"unknown {kind} '{'.'.join(location)}': {hint}"


def _section_with(key: str) -> str | None:
    for section, field in Config.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and key in annotation.model_fields:
            return section
    return None
