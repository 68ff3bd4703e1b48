# SPDX-License-Identifier: MIT
"""Builds the fuzz targets, replays their corpora and runs them for a while.

    run.py [--seconds N] [--target NAME ...]

Each target runs for N seconds on what tests/fuzz/corpus/NAME has and what earlier runs found, as many targets at a
time as there are processors. What ends a target is kept in build/fuzz/findings: an input to reproduce it with and the
target's output. The last line says how many targets passed and failed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
BUILD: Final = ROOT / "build" / "fuzz"
FINDINGS: Final = BUILD / "findings"

# longer inputs than this bring nothing new
LONGEST: Final = {
    "nodelist": 512, "criteria": 1024, "params": 512, "spill": 2048, "replies": 2048,
    "config": 1024, "document": 2048, "http": 2048, "intake": 2048, "question": 1024, "resp": 1024, "restrict": 512,
    "cond": 1024, "spool": 256,
}  # fmt: skip
IN_C: Final = frozenset(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.c"))
IN_PYTHON: Final = frozenset(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.py"))
TARGETS: Final = sorted(IN_C | IN_PYTHON)
COMPILERS: Final = ("clang-14", "clang")


@dataclass
class Outcome:
    """What became of one target."""

    target: str
    passed: bool
    replayed: int
    executions: int
    log: Path


def build(targets: list[str]) -> None:
    """Those in C; the library that those in Python need is the usual build's.

    Raises:
        SystemExit: with the compiler's output, when it does not build.
    """
    if not targets:
        return
    compiler = next(filter(shutil.which, COMPILERS), None)
    if compiler is None:
        raise SystemExit(f"none of {', '.join(COMPILERS)} is installed: run `make setup`")
    jobs = str(os.cpu_count() or 1)
    steps: list[list[str | Path]] = [
        ["cmake", "-S", HERE, "-B", BUILD, f"-DCMAKE_C_COMPILER={compiler}"],
        ["cmake", "--build", BUILD, "-j", jobs, "--target", *(f"fuzz_{name}" for name in targets)],
    ]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)


def number(pattern: str, text: str) -> int:
    """The number that the pattern's group finds last, 0 if none."""
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0


def run(target: str, seconds: int) -> Outcome:
    """Replays and fuzzes one target; `seconds` 0 only replays."""
    seeds = HERE / "corpus" / target
    grown = BUILD / "corpus" / target
    grown.mkdir(parents=True, exist_ok=True)
    FINDINGS.mkdir(parents=True, exist_ok=True)
    log = FINDINGS / f"{target}.log"
    options = [
        f"-max_len={LONGEST.get(target, 4096)}",
        "-timeout=20",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
        f"-artifact_prefix={FINDINGS}/{target}-",
        *([f"-max_total_time={seconds}"] if seconds else ["-runs=0"]),
    ]
    # freed memory need not be kept for long: these programs forget everything between two inputs
    env = {**os.environ, "ASAN_OPTIONS": "quarantine_size_mb=8", "UBSAN_OPTIONS": "print_stacktrace=1"}
    program: list[str | Path] = [BUILD / f"fuzz_{target}"]
    if target in IN_PYTHON:
        program = [sys.executable, "-m", "tests.fuzz.python_target", target]
    with log.open("w") as out:
        code = subprocess.run(
            [*program, *options, grown, seeds], stdout=out, stderr=out, env=env, cwd=ROOT, check=False
        ).returncode
    text = log.read_text(errors="replace")
    return Outcome(
        target=target,
        passed=code == 0,
        replayed=len(list(seeds.iterdir())),
        executions=number(r"stat::number_of_executed_units: (\d+)", text),
        log=log,
    )


def report(outcome: Outcome) -> None:
    state = "passed" if outcome.passed else "FAILED"
    print(f"{state}  {outcome.target:<9} {outcome.executions:>12,} executions, {outcome.replayed} inputs kept")
    if not outcome.passed:
        lines = outcome.log.read_text(errors="replace").splitlines()
        telling = [
            line
            for line in lines
            if re.search(r"does not hold|ERROR|runtime error|SUMMARY|Test unit|^\w*(Error|Exception)\b", line)
        ]
        print("\n".join(f"        {line}" for line in telling[:12]))
        print(f"        all of it: {outcome.log}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the fuzz targets.")
    parser.add_argument("--seconds", type=int, default=60, help="for each target; 0 only replays what is kept")
    parser.add_argument("--target", action="append", choices=TARGETS, help="only this one; may be repeated")
    args = parser.parse_args()
    targets = args.target or TARGETS
    build([target for target in targets if target in IN_C])
    passed = 0
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for outcome in pool.map(lambda target: run(target, args.seconds), targets):
            report(outcome)
            passed += outcome.passed
    print(f"{passed} passed, {len(targets) - passed} failed")
    return 0 if passed == len(targets) else 1


if __name__ == "__main__":
    sys.exit(main())
