# SPDX-License-Identifier: MIT
"""bench/run all: every benchmark, one after another, in under 15 minutes on two cores.

Each runs as a process of its own, as `bench/run NAME --json` would, with options that keep it short; a longer look at
one is `bench/run NAME`. The figures with a target are printed as one table, everything goes into one JSON file. A
benchmark that fails is named and the others go on; the exit status then says so. Below the targets stand the peers and
ceilings of the same runs, each beside the figure of ours that it is compared with.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench import hook_peers, sacct_peers
from bench.cli import flatten

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = ROOT / "build/bench.json"

# What is run: a title, and the words behind bench/run.
PLAN: Final[dict[str, list[str]]] = {
    "hook": ["hook", "--calls", "500000", "--peer-seconds", "1"],
    "hook --faults": ["hook", "--faults", "--calls", "200000"],
    "squeue": ["squeue", "--rounds", "1"],
    "store": ["store", "--jobs", "1000000"],
    "ingest": ["ingest", "--seconds", "20", "--rounds", "2"],
    "steady": ["steady", "--seconds", "3"],
    "drain": ["drain", "--rounds", "2"],
    "start": ["start", "--rounds", "5"],
    "query": ["query"],
    "sacct": ["sacct", "--rounds", "1"],
    "cli": ["cli"],
    "hostile": ["hostile"],
    "scale": ["scale", "--rounds", "1"],
}


@dataclass(frozen=True)
class Target:
    """A bound for one figure; `least` says that more is better."""

    bound: float
    least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.bound if self.least else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.least else '≤'} {_shown(self.bound)}"


_FAULTS: Final = ("daemon_absent", "daemon_stopped", "redis_stopped", "ring_full", "spool_full")

TARGETS: Final[dict[str, dict[str, Target]]] = {
    "hook": {"p50_us": Target(1.5), "p999_us": Target(10), "max_us": Target(1000)},
    "hook --faults": {
        f"{fault}.{key}": Target(bound) for fault in _FAULTS for key, bound in (("p999_us", 20.0), ("max_us", 1000.0))
    },
    "squeue": {
        f"{state}.max_over_idle_ms": Target(100) for state in ("ending", "match", "redis_stopped", "daemon_stopped")
    },
    "store": {
        "bytes_per_job": Target(120),
        **{f"match_ms.{question}": Target(5) for question in ("none", "user", "failed", "day_user")},
        "job_id_ms": Target(1),
        "block_ms.match": Target(5),
        "block_ms.fetch": Target(5),
        "fetch_jobs_per_s": Target(1_000_000, least=True),
        "put_over_set": Target(1, least=True),
        "agg_user_ms": Target(150),
    },
    "ingest": {
        "jobs_per_s": Target(200_000, least=True),
        "ratio": Target(0.6, least=True),
        "daemon_us_per_job": Target(4),
        "daemon_rest_rss_mib": Target(60),
        "daemon_rss_mib": Target(150),
        "visible_p99_ms": Target(1000),
        "redis_stopped_ack_p99_ms": Target(50),
    },
    "drain": {"jobs_per_s": Target(250_000, least=True)},
    "query": {"rows_per_s": Target(500_000, least=True)},
    "sacct": {"user_ms": Target(30), "id_ms": Target(15), "everything_over_floor": Target(1.1)},
    "cli": {"wall_ms": Target(120)},
    "hostile": {"ingest_ack_p99_ms": Target(100), "loop_lag_p99_ms": Target(50)},
    "scale": {"lost": Target(0), "twice": Target(0)},
}

# Figures that nothing was promised of, and are shown all the same.
SHOWN: Final[dict[str, tuple[str, ...]]] = {
    "steady": tuple(
        f"rate.{rate}.{key}"
        for rate in (1_000, 10_000)
        for key in ("daemon_cpu", "redis_cpu", "daemon_written_mib_per_s", "redis_written_mib_per_s")
    ),
    "scale": tuple(
        f"{where}.{key}"
        for where in ("single", "per_shards.1", "per_shards.3", "per_shards.6")
        for key in ("jobs_per_s", "job_ms", "user_day_ms", "limit_jobs_per_s")
    ),
    "start": ("listening_ms", "ready_ms", "embedded_ready_ms", "spooled_listening_ms", "stop_ms"),
}

# Peers and ceilings, and the figure of ours that each stands beside.
BESIDE: Final[dict[str, dict[str, str]]] = {
    "hook": {f"{peer}_p50_us": "p50_us" for peer in hook_peers.NAMES},
    "store": {"set_per_s": "put_per_s", "upstream_bytes_per_job": "bytes_per_job"},
    "ingest": {"set_per_s": "jobs_per_s"},
    "start": {"redis_ms": "embedded_ready_ms", "python_ms": "listening_ms"},
    "query": {"redis_rows_per_s": "rows_per_s"},
    "sacct": {
        "floor_s": "everything_s",
        **{f"{peer}_{what}": what for peer in sacct_peers.NAMES for what in ("id_ms", "user_ms", "everything_s")},
    },
    "cli": {"python_ms": "wall_ms"},
}


def run(words: list[str]) -> dict[str, Any]:
    """One benchmark's figures, or {"error": what it said} if it gave none."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.cli", *words, "--json"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0 or not done.stdout.strip():
        said = done.stderr.strip().splitlines()
        return {"error": said[-1] if said else f"exit status {done.returncode}"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def rows(title: str, found: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row for each figure that has a target: name, smallest, median and largest, target, whether it was met."""
    figures = dict(flatten(found))
    lines: list[tuple[str, ...]] = []
    for key, target in TARGETS.get(title, {}).items():
        value = figures.get(key)
        if value is None:
            lines.append((f"{title}: {key}", "", "not measured", "", str(target), "no"))
            continue
        lines.append((f"{title}: {key}", *_ends(figures, key), str(target), "yes" if target.met(value) else "no"))
    for key in SHOWN.get(title, ()):
        if key in figures:
            lines.append((f"{title}: {key}", *_ends(figures, key), "", ""))
    return lines


def _ends(figures: dict[str, Any], key: str) -> tuple[str, str, str]:
    """The smallest, the median and the largest, as far as they are there."""
    return _shown(figures.get(f"min.{key}")), _shown(figures[key]), _shown(figures.get(f"max.{key}"))


def beside(title: str, found: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row for each peer and ceiling that was measured: name, its ends and median, ours, and how often ours it is."""
    figures = dict(flatten(found))
    return [
        (f"{title}: {key}", *_ends(figures, key), f"{own} {_shown(figures[own])}", f"{figures[key] / figures[own]:.3g}")
        for key, own in BESIDE.get(title, {}).items()
        if key in figures and figures.get(own)
    ]


def remarks(title: str, found: dict[str, Any]) -> list[str]:
    """What has to be known to read the figures: a peer left out, a machine that was busy, a failure."""
    said = []
    if "error" in found:
        said.append(f"{title} failed: {found['error']}")
    if left_out := found.get("left_out"):
        said.append(f"{title}: left out: {left_out}")
    if found.get("calibration", {}).get("moved"):
        said.append(f"{title}: the calibration moved, the machine was busy with something else")
    return said


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


HEAD: Final = ("figure", "min", "median", "max", "target", "met")
HEAD_BESIDE: Final = ("peer or ceiling", "min", "median", "max", "ours", "times ours")


def table(head: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    """The rows under a head, in columns."""
    every = [head, *lines]
    widths = [max(len(line[column]) for line in every) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                  for column, (cell, width) in enumerate(zip(line, widths, strict=True)))
        for line in every
    )  # fmt: skip


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench/run all", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the JSON goes (default: %(default)s)")
    options = parser.parse_args(argv)
    begin = time.monotonic()
    found: dict[str, dict[str, Any]] = {}
    for title, words in PLAN.items():
        print(f"bench/run {' '.join(words)}", file=sys.stderr, flush=True)
        found[title] = run(words)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=1) + "\n")
    if options.json:
        print(json.dumps(found))
    else:
        measured = {title: figures for title, figures in found.items() if "error" not in figures}
        for head, make in ((HEAD, rows), (HEAD_BESIDE, beside)):
            print(table(head, [row for title, figures in measured.items() for row in make(title, figures)]), end="\n\n")
        print(*(line for title, figures in found.items() for line in remarks(title, figures)), "", sep="\n")
        print(f"all figures: {options.output}; {(time.monotonic() - begin) / 60:.0f} minutes")
    return 1 if any("error" in figures for figures in found.values()) else 0
