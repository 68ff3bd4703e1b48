# SPDX-License-Identifier: MIT
"""Lay JSON results side by side as a Markdown table: python -m bench.table COLUMN=FILE ... [-- KEY ...]"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bench.cli import flatten


def shown(value: Any) -> str:
    """Three significant digits, more where they are a count."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def table(columns: dict[str, dict[str, Any]], keys: list[str]) -> str:
    rows = [["", *columns], ["---", *("---:" for _ in columns)]]
    rows += [[f"`{key}`", *(shown(figures.get(key, "")) for figures in columns.values())] for key in keys]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(argv: list[str]) -> int:
    files, _, keys = " ".join(argv).partition(" -- ")
    columns: dict[str, dict[str, Any]] = {}
    for word in files.split():
        name, _, path = word.partition("=")
        columns[name] = dict(flatten(json.loads(Path(path).read_text().splitlines()[-1])))
    if not columns:
        print(__doc__, file=sys.stderr)
        return 2
    every = list(dict.fromkeys(key for figures in columns.values() for key in figures))
    print(table(columns, keys.split() or every))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
