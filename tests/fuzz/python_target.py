# SPDX-License-Identifier: MIT
"""Runs a fuzz target that is written in Python, guided by coverage: atheris, which is libFuzzer for Python.

    python -m tests.fuzz.python_target NAME [libFuzzer option ...] [corpus ...]

A target is a module fuzz_NAME with `one_input(data: bytes)`; an exception that leaves it is a finding. Targets know
nothing of atheris, so that pytest can replay what is kept (test_python_targets.py).
"""

from __future__ import annotations

import importlib
import sys

import atheris


def main() -> None:
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=["slurmjcd", "tomllib"]):
        target = importlib.import_module(f"tests.fuzz.fuzz_{name}")
    atheris.Setup(sys.argv, target.one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
