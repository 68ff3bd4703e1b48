# SPDX-License-Identifier: MIT
"""The screen of `slurmjc top`, drawn for any width from 20 columns on, with and without Unicode and colour. No I/O."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from rich.text import Text

from slurmjcd.client.columns import elapsed_s, job_id
from slurmjcd.client.table import plain
from slurmjcd.client.times import format_span
from slurmjcd.client.topdata import Snapshot
from slurmjcd.sizes import size, span
from slurmjcd.slurm.states import exit_status, state_name

_STYLES: Final = {"ok": "green", "idle": "dim", "warning": "yellow", "error": "bold red"}
_WORDS: Final = {"ok": "ok", "idle": "idle", "warning": "warning", "error": "ERROR"}
_GOOD: Final = ("COMPLETED",)
_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_ASCII: Final = "_.-=+*#@"
_TROUBLES: Final = 3
_LINES: Final = 5  # of one text
_WIDE: Final = 60  # from here on a line has room for words


def draw(shot: Snapshot, width: int, height: int, *, encoding: str = "utf-8", keys: bool = True) -> Text:
    """The screen as lines, each at most `width` characters, at most `height` of them (0: as many as there are)."""
    unicode = encoding.lower().replace("-", "").startswith("utf")
    lines = [*_head(shot, width), *_stages(shot, width), *_rates(shot, width, unicode=unicode), *_troubles(shot, width)]
    room = height - len(lines) - (1 if keys else 0) if height else len(shot.jobs) + 3
    lines += _jobs(shot, width, room)
    if height:
        lines = lines[: height - (1 if keys else 0)]
    if keys:
        lines.append(Text("q quits", style="dim"))
    for line in lines:
        line.truncate(width, overflow="ellipsis" if unicode else "crop")
    return Text("\n").join(lines)


def _head(shot: Snapshot, width: int) -> Iterator[Text]:
    status = shot.status
    now = time.strftime("%H:%M:%S", time.localtime(shot.at_s))
    title = f"slurmjcd {plain(status['version'])}, up {span(max(0.0, status['time'] - status['started']))}"
    yield Text(title.ljust(width - len(now) - 1) + " " + now if len(title) + len(now) < width else title, style="bold")
    if shot.error:
        yield from _wrapped(plain(shot.error), width, "bold red")
    else:
        yield from _wrapped(plain(status["text"]), width, _STYLES.get(status["level"], ""))
    yield Text()


def _stages(shot: Snapshot, width: int) -> Iterator[Text]:
    for stage in shot.status["stages"]:
        line = Text(f"{plain(stage['name']):<9}")
        line.append(f"{_WORDS.get(stage['level'], stage['level']):<8}", style=_STYLES.get(stage["level"], ""))
        text = plain(stage.get("text", ""))
        if width >= _WIDE or stage["level"] in ("warning", "error"):
            line.append(text)
        yield line


def _rates(shot: Snapshot, width: int, *, unicode: bool) -> Iterator[Text]:
    rates, spool = shot.status["rates"], shot.status.get("spool")
    names = (
        {"received_s": "in/s", "stored_s": "Redis/s", "answered_s": "asked/s"} if spool else {"answered_s": "asked/s"}
    )
    yield Text()
    for name, title in names.items():
        minute = rates[name]["minute"]
        line = Text(f"{title:<9}{'-' if minute is None else f'{minute:,.1f}':>9}  ")
        line.append(spark(rates[name]["course"], width - len(line.plain), unicode=unicode), style="cyan")
        yield line
    if spool:
        line = Text(f"{'waiting':<9}{spool['backlog_records']:>9,}  ")
        course = spark(rates["waiting"]["course"], width - len(line.plain), unicode=unicode)
        line.append(course, style="yellow" if spool["backlog_records"] else "cyan")
        yield line
        kept = f"{'spool':<9}{size(spool['bytes']):>9}  of {size(spool['max_bytes'])}"
        told = [
            ("quarantine", spool["quarantined_records"]),
            ("dropped", spool["dropped"]),
            ("lost", spool["lost_records"]),
        ]
        wrong = ", ".join(f"{name} {count:,}" for name, count in told if count)
        line = Text(kept)
        if wrong:
            line.append(f", {wrong}", style="yellow")
        yield line


def spark(values: Sequence[float], width: int, *, unicode: bool) -> str:
    """A course of values as a line of blocks, the last at the right; at most `width` of them."""
    recent = list(values)[-width:] if width > 0 else []
    top, signs = max(recent, default=0.0), _BLOCKS if unicode else _ASCII
    if top <= 0:
        return signs[0] * len(recent)
    return "".join(signs[min(len(signs) - 1, int(value / top * len(signs)))] for value in recent)


def _troubles(shot: Snapshot, width: int) -> Iterator[Text]:
    troubles = shot.status.get("troubles") or []
    if not troubles:
        return
    yield Text()
    for trouble in troubles[:_TROUBLES]:
        began = time.strftime("%H:%M:%S", time.localtime(trouble["start"]))
        over = "" if trouble["end"] is None else f" for {span(trouble['end'] - trouble['start'])}"
        style = "dim" if over else _STYLES.get(trouble["level"], "")
        yield from _wrapped(f"{began}{over} {plain(trouble['name'])}: {plain(trouble['text'])}", width, style)
        if not over and trouble.get("advice"):
            yield from _wrapped(f"  {plain(trouble['advice']).replace('`', '')}", width)


def _wrapped(text: str, width: int, style: str = "") -> Iterator[Text]:
    """A text that has to be read whole, on as many lines as it needs."""
    lines = textwrap.wrap(
        text, max(width, 10), subsequent_indent="  ", max_lines=_LINES, placeholder=" ...", break_on_hyphens=False
    )
    for line in lines:
        yield Text(line, style=style)


# title, width, value, and from which width of the terminal on; the name takes what is left
_COLUMNS: Final = (
    ("Ended", 8, lambda job: time.strftime("%H:%M:%S", time.localtime(job["end"])), 0),
    ("JobID", 10, job_id, 0),
    ("State", 13, lambda job: state_name(job["state"], job["extra"].get("state_flags")), 0),
    ("Exit", 5, lambda job: ":".join(map(str, exit_status(job["exit_code"]) or (0, 0))), 40),
    ("User", 10, lambda job: job["user"] or job["uid"], 54),
    ("Partition", 10, lambda job: job["partition"], 66),
    ("Elapsed", 10, lambda job: format_span(elapsed_s(job)), 80),
    ("Nodes", 12, lambda job: job["nodes"], 100),
)


def _jobs(shot: Snapshot, width: int, room: int) -> Iterator[Text]:
    if room < 3:
        return
    yield Text()
    whose = {"own": "your jobs", "accounts": "jobs of your accounts"}.get(shot.sees, "jobs")
    if shot.store_error:
        redis_is_away = any(one["key"] == "redis" and one["level"] == "error" for one in shot.status["stages"])
        why = "Redis is away" if redis_is_away else plain(shot.store_error)
        yield from _wrapped(f"No {whose} can be shown: {why}.", width, "bold red")
        return
    if not shot.jobs:
        yield Text(f"No {whose} ended in the last day.")
        return
    columns = [column for column in _COLUMNS if width >= column[3]]
    left = width - sum(column[1] + 1 for column in columns)
    head = " ".join(f"{title:<{wide}}" for title, wide, _, _ in columns)
    yield Text(f"{head} {'Name' if left >= 6 else ''}", style="bold")
    for job in shot.jobs[: room - 2]:
        yield _row(job, columns, left)


def _row(job: dict[str, Any], columns: Iterable[Any], left: int) -> Text:
    line = Text()
    for title, wide, value, _ in columns:
        text = plain(value(job))
        cell = f"{text if len(text) <= wide else text[: wide - 1] + '+':<{wide}} "
        bad = title == "State" and text not in _GOOD
        line.append(cell, style="red" if bad else "")
    if left >= 6:
        line.append(plain(job["name"])[:left])
    return line


def one_line(shot: Snapshot) -> str:
    """For a pipe: the time, and name=value."""
    status, rates = shot.status, shot.status["rates"]
    at = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(shot.at_s))
    pairs = {"level": status["level"]}
    for name, key in (("received", "received_s"), ("stored", "stored_s"), ("answered", "answered_s")):
        minute = rates[key]["minute"]
        pairs[f"{name}_per_s"] = "-" if minute is None else f"{minute:g}"
    spool = status.get("spool")
    if spool:
        pairs |= {"waiting": spool["backlog_records"], "oldest_s": spool["oldest_s"]}
    pairs |= {stage["key"]: stage["level"] for stage in status["stages"]}
    text = " ".join(f"{name}={value}" for name, value in pairs.items())
    return f"{at} {text} {'error=' if shot.error else ''}{plain(shot.error)}".rstrip()
