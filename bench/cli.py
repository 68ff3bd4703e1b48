# SPDX-License-Identifier: MIT
"""bench/run NAME [options] [--json]: measure one thing, print a table or one JSON object.

A benchmark is a module with `add_arguments(parser)` and `measure(options)`, which returns nested figures. The machine
is calibrated before it, after it, and between its rounds, which it counts with `options.machine.rounds(n)`; when that
moved, the figures are those of a busy machine, and it is said.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import sys
from pathlib import Path
from typing import Any, Final

from bench import calibration

HERE: Final = Path(__file__).parent


def benchmarks() -> dict[str, Path]:
    """Name → file of each module here that has the two functions. `hook` is a folder as well, `cli` this file,
    `import` a word of Python's."""
    names = {"hook_cost": "hook", "cli_start": "cli", "import_jobs": "import", "export_jobs": "export"}
    found = {}
    for path in sorted(HERE.glob("*.py")):
        functions = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
        if {"add_arguments", "measure"} <= functions:
            found[names.get(path.stem, path.stem)] = path
    return found


def main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0 if argv else 2
    name, *rest = argv
    if name == "all":
        return int(importlib.import_module("bench.everything").main(rest))
    if name not in benchmarks():
        print(f"error: no benchmark is called '{name}'\n{_usage()}", file=sys.stderr)
        return 2
    if name == "hook" and "--faults" in rest:
        module = importlib.import_module("bench.hook_faults")
        return int(module.main([word for word in rest if word != "--faults"]))
    return _measure(name, rest)


def _measure(name: str, argv: list[str]) -> int:
    module = importlib.import_module(f"bench.{benchmarks()[name].stem}")
    parser = argparse.ArgumentParser(prog=f"bench/run {name}", description=module.__doc__)
    module.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    with calibration.running() as machine:
        options.machine = machine
        found: dict[str, Any] = module.measure(options)
    found["calibration"] = calibration.report(machine.taken)
    if options.json:
        print(json.dumps(found))
        return 0
    for key, value in flatten(found):
        print(f"{key:<40} {_text(value):>16}")
    for line in calibration.moved(machine.taken):
        print(f"NOTE: {line}")
    return 0


def flatten(found: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested figures as dotted keys."""
    rows: list[tuple[str, Any]] = []
    for key, value in found.items():
        rows += flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return rows


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _usage() -> str:
    lines = ["usage: bench/run NAME [options] [--json]", "", "  all      every one of these, in under 15 minutes"]
    for name, path in benchmarks().items():
        about = ast.get_docstring(ast.parse(path.read_text())) or ""
        lines.append(f"  {name:<8} {about.splitlines()[0]}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
