# SPDX-License-Identifier: MIT
"""The questions: every option of sacct that selects, alone, in twos, and in pairwise combinations."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from allpairspy import AllPairs  # type: ignore[import-untyped]

from .people import ALICE, BOB, CAROL

# A fixed seed: the same jobs are asked the same questions.
_SEED = 2205


@dataclass(frozen=True)
class Question:
    """Arguments of sacct, who asks, and in which time zone."""

    group: str
    args: tuple[str, ...]
    user: int = 0
    zone: str = "UTC"

    @property
    def text(self) -> str:
        """As one would type it."""
        words = [word if word and " " not in word else f"'{word}'" for word in self.args]
        prefix = (f"TZ={self.zone} " if self.zone != "UTC" else "") + (f"[uid {self.user}] " if self.user else "")
        return prefix + " ".join(words)


@dataclass(frozen=True)
class Facts:
    """What the questions need to know of the jobs.

    Attributes:
        ids: label of the workload: job id.
        times: interesting moments (epoch seconds): ends, starts, eligible times.
        first, last: before the first submission, after the last end.
        midnight: the midnight UTC within the run.
    """

    ids: Mapping[str, int]
    first: int
    midnight: int
    last: int
    times: Sequence[int] = field(default_factory=tuple)


def _uts(when: int) -> str:
    return f"uts{when}"


class Options:
    """For every option of sacct the values worth asking for, as argument tuples."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        ids = facts.ids
        self.whole = ("-S", _uts(facts.first))
        self.values: dict[str, list[tuple[str, ...]]] = {
            "window": list(self._windows()),
            "state": [("-s", s) for s in (*self._states(), "CD,F,TO", "CA,PD", "PENDING,RUNNING", "NF,PR,DL")],
            "job": [("-j", text.format_map(ids)) for text in _JOBS],
            "user": [("-u", "alice"), ("-u", "bob,carol"), ("--uid", str(BOB)), ("-u", "root"), ("--user", "gone")],
            "group": [("-g", "alice"), ("--gid", f"{BOB},{CAROL}")],
            "account": [("-A", name) for name in ("lab1", "chem,physics", "LAB1", "root", "nobody")],
            "partition": [("-r", name) for name in ("main", "debug,Long", "long", "closed", "nowhere")],
            "name": [("--name", name) for name in _NAMES],
            "qos": [("-q", name) for name in ("normal", "high,low", "scavenger", "HIGH")],
            "wckey": [("-W", name) for name in ("wk1", "wk2", "*wk1", "none", "WK1")],
            "nodes": [("-N", name) for name in ("n1", "n[1-3]", "n8,n[6-7]", "n2,elsewhere", "n[5-8]")],
            "nnodes": [("-i", text) for text in ("1", "2", "1-2", "2-3", "3")],
            "ncpus": [("-I", text) for text in ("1", "2", "3-6", "16", "1-200")],
            "limit": [("-k", "10"), ("-k", "2", "-K", "7"), ("-k", "00:05:00"), ("-K", "5"), ("-k", "UNLIMITED"),
                      ("-k", "1", "-K", "UNLIMITED"), ("-k", "1-00:00:00")],
            "reason": [("--reason", text) for text in ("Resources", "Dependency,BeginTime", "PartitionDown", "None",
                                                 "JobHeldUser", "NodeDown", "Priority", "DependencyNeverSatisfied")],
            "constraint": [("-C", text) for text in ("fast", "BigMem", "slow", "fast&bigmem", "ast", "nothing")],
            "duplicates": [("-D",)],
            "cluster": [("-M", "parity"), ("-M", "PARITY"), ("-L",), ("-M", "all")],
            "federation": [("--federation",), ("--local",)],
            "whole_hetjob": [("--whole-hetjob=yes",), ("--whole-hetjob=no",)],
        }  # fmt: skip

    def _windows(self) -> Iterator[tuple[str, ...]]:
        facts = self.facts
        yield ()
        yield ("-S", _uts(facts.first))
        yield ("-E", _uts(facts.midnight))
        yield ("-S", _uts(facts.first), "-E", _uts(facts.midnight))
        yield ("-S", _uts(facts.midnight), "-E", _uts(facts.last))
        for when in facts.times:
            yield ("-S", _uts(when), "-E", _uts(when))
            yield ("-S", _uts(when))
            yield ("-S", _uts(facts.first), "-E", _uts(when))
            yield ("-S", _uts(when - 2), "-E", _uts(when + 1))

    @staticmethod
    def _states() -> tuple[str, ...]:
        return (
            "PD", "R", "S", "CD", "CA", "F", "TO", "NF", "PR", "BF", "DL", "OOM", "RQ", "RS", "RV",
            "completed", "FAILED",
        )  # fmt: skip


_NAMES = (
    "Solver", "solver", "SOLVER", "post_proc", "100%", "it's", "größe", "plain,wrap", "array1", "a", "'a,b'", "wrap",
    "x" * 70,
)  # fmt: skip
_JOBS = (
    "{completed}", "{fast1},{fast2},{array1}", "{array1}", "{array1}_5", "{array1}_[3-6]", "{array1}_[1,7,19]",
    "{array_mixed}_3", "{array_running}", "{array_pending}", "{array_pending}_2", "{array_stride}", "{array_held}",
    "{het}", "{het}+1", "{het}+0,{het}+2", "{het_cancelled}", "{requeued}", "{resized}", "{cancel_held}", "{dep_never}",
    "{cancel_begin}", "{still_running}", "{still_pending}", "{array_half_done}", "{array_half_done}_1",
    "{array_half_done}_0", "99999", "{completed}.batch", "{preempt_requeued}", "{deadline}", "{timeout}",
)  # fmt: skip

# Words and forms of times sacct(1) lists; dates of the run itself are filled in.
_WORDS = (
    "now", "today", "yesterday", "tomorrow", "midnight", "noon", "teatime", "fika", "elevenses",
    "now-1minutes", "now-90", "now-1hours", "now-1days", "now-1weeks", "today-1days",
    "00:00", "00:00:30", "23:59", "12:00AM", "11:59PM",
    "%m%d%y", "%m%d", "%m/%d", "%m/%d/%y", "%d.%m.%y", "%d.%m", "%Y-%m-%d", "1970-01-02",
    "%m/%d-%H:%M", "%m/%d/%y-%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S",
)  # fmt: skip


def _zones(facts: Facts) -> Iterator[str]:
    """Zones whose clocks change within the run: forward, back, and one where midnight falls elsewhere.

    POSIX rules let us put the change where the jobs are: day of the year and UTC seconds of the moment.
    """
    change = datetime.fromtimestamp(facts.midnight + 20, UTC)
    day = (change - datetime(change.year, 1, 1, tzinfo=UTC)).days  # as n, from 0, leap days counted
    seconds = change.hour * 3600 + change.minute * 60 + change.second
    clock = f"{seconds // 3600}:{seconds % 3600 // 60:02}:{seconds % 60:02}"
    ahead = f"{seconds // 3600 + 1}:{seconds % 3600 // 60:02}:{seconds % 60:02}"
    yield f"STD0DST-1,{day}/{clock},{day + 20}/0"
    yield f"STD0DST-1,{day - 20}/0,{day}/{ahead}"
    offset = facts.midnight - facts.first
    yield f"MID{offset // 3600}:{offset % 3600 // 60:02}:{offset % 60 - 40 if offset % 60 > 40 else 0:02}"
    yield "America/Havana"


def questions(facts: Facts, now: int) -> list[Question]:
    """All questions about the jobs of one run, without repetitions."""
    found = [
        *_alone(facts),
        *_in_twos(facts),
        *_pairwise(facts),
        *_words(facts, now),
        *_in_zones(facts),
        *_as_users(facts),
    ]
    return list(dict.fromkeys(found))


def after_restart(facts: Facts) -> list[Question]:
    """About the job that was resized before and after slurmctld's restart."""
    job = ("-j", str(facts.ids["resized_twice"]))
    whole = ("-S", _uts(facts.first))
    asked = (job, (*job, "-D"), (*job, *whole), (*job, *whole, "-N", "n2"), (*job, *whole, "-N", "n[3-4]", "-D"))
    return [Question("after a restart", args) for args in asked]


def _alone(facts: Facts) -> Iterator[Question]:
    options = Options(facts)
    for name, values in options.values.items():
        for value in values:
            if name == "window":
                yield Question(name, value)
                yield Question(name, (*value, "-D"))
            elif name == "job":
                yield Question(name, value)
                yield Question(name, (*value, "-D"))
                yield Question(name, (*value, *options.whole))
                for whole in options.values["whole_hetjob"]:
                    yield Question(name, (*value, *whole))
            elif name == "state":
                for window in options.values["window"][:5] + options.values["window"][5::4][:4]:
                    yield Question(name, (*value, *window))
            else:
                yield Question(name, (*value, *options.whole))
                yield Question(name, value)


def _in_twos(facts: Facts) -> Iterator[Question]:
    options = Options(facts)
    choose = random.Random(_SEED)
    names = [name for name in options.values if name != "window"]
    for one, other in itertools.combinations(names, 2):
        for _ in range(2):
            both = (*choose.choice(options.values[one]), *choose.choice(options.values[other]))
            yield Question("two options", (*options.whole, "-E", _uts(facts.last), *both))


def _pairwise(facts: Facts) -> Iterator[Question]:
    """Groups of four options: every pair of values (or absences) at least once, in as few questions as that takes."""
    options = Options(facts)
    choose = random.Random(_SEED)
    names = [name for name in options.values if name != "window"]
    for _ in range(3):
        choose.shuffle(names)
        for four in zip(*[iter(names)] * 4, strict=False):
            values = [[(), *choose.sample(options.values[name], min(3, len(options.values[name])))] for name in four]
            for row in AllPairs(values):
                yield Question("pairwise", (*options.whole, *itertools.chain.from_iterable(row)))


def _words(facts: Facts, now: int) -> Iterator[Question]:
    for word in _WORDS:
        for when in (now, facts.midnight - 20):
            text = datetime.fromtimestamp(when, UTC).strftime(word)
            yield Question("time words", ("-S", text))
            yield Question("time words", ("-S", "1970-01-02", "-E", text))
            yield Question("time words", ("-S", text, "-s", "CD,F,CA"))


def _in_zones(facts: Facts) -> Iterator[Question]:
    whole = ("-S", _uts(facts.first), "-E", _uts(facts.midnight))
    windows = (
        (), ("-D", "-S", "now-2hours"), ("-S", "00:00"), ("-S", "today", "-E", "01:00"), ("-S", "midnight"),
        ("-S", "today", "-s", "CD"), ("-S", "01:00:10"), whole,
    )  # fmt: skip
    for zone, args in itertools.product(_zones(facts), windows):
        yield Question("time zones", args, zone=zone)


def _as_users(facts: Facts) -> Iterator[Question]:
    whole = ("-S", _uts(facts.first))
    asked = (
        whole, (*whole, "-a"), (*whole, "-u", "carol"), ("-j", str(facts.ids["exit3"])), (*whole, "-N", "n1"),
        (*whole, "-s", "CD,F"), (*whole, "-A", "lab1"),
    )  # fmt: skip
    for user, args in itertools.product((ALICE, BOB), asked):
        yield Question("as a user", args, user=user)
