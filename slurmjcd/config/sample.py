# SPDX-License-Identifier: MIT
"""The sample configuration: every key at its default, commented out, with what it means. Made from settings.py."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from slurmjcd.config.settings import Config

_HEAD = """\
# slurmjcd.toml: configuration of slurmjcd(8). Every key is shown at its default.
# The environment overrides it: SLURMJCD_<SECTION>__<KEY>, such as SLURMJCD_SPOOL__PATH=/data/spool.db
# `slurmjcd check-config` says whether this file is right; `systemctl reload slurmjcd` takes it in.
"""


def sample() -> str:
    """The text of a complete configuration file."""
    parts = [_HEAD]
    for name, field in Config.model_fields.items():
        section = field.annotation
        assert isinstance(section, type)
        assert issubclass(section, BaseModel)
        parts.append(f"\n# {section.__doc__}\n[{name}]\n")
        parts.extend(_entry(key, entry) for key, entry in section.model_fields.items())
    return "".join(parts)


def _entry(key: str, field: FieldInfo) -> str:
    words = textwrap.wrap(field.description or "", 110)
    comment = "".join(f"# {line}\n" for line in words)
    return f"{comment}#{key} = {toml_value(key, field.get_default(call_default_factory=True))}\n"


def toml_value(key: str, value: Any) -> str:
    """A value as the file has it."""
    if value is None:
        return '""'
    if key == "mode":
        return f'"{value:04o}"'
    if isinstance(value, Path):
        return json.dumps(str(value))
    return json.dumps(value)
