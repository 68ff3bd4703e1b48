# SPDX-License-Identifier: MIT
"""What a question rules out by columns and their statistics, before the engine is asked about the rest.

It may leave in what doesn't match, never the other way round: whatever a column doesn't say for sure (text that is no
ASCII, times of jobs that waited or ran, node lists, features) stays. Criteria come after the engine has taken them, so
their values have the form that docs/protocol.md gives them.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from slurmjcd.access.policy import lower

# smallest and largest value of a row group's column, epoch seconds for times; None where there is none but null. A
# column of which that isn't known is left out.
Span = tuple[int, int] | None
Spans = Mapping[str, Span]
# all there are in a file's column, but null, in order; text that is compared without regard to case in lower case. A
# column of which they aren't known is left out.
Values = Mapping[str, Sequence[Any]]

_FOLDED: Final = ("account", "cluster", "partition", "qos", "wckey", "name")  # compared without regard to case
_TEXTS: Final = (*_FOLDED, "user", "group", "reservation")
NUMBERS: Final = ("uid", "gid", "qos_id")
_IDS: Final = ("job_id", "array_job_id", "het_job_id")
_ID: Final = re.compile(r"(\d+)(?:-(\d+)|[_+][^,\[]*(?:\[[^\]]*\])?)?(?:,|$)")
_RANGES_MAX: Final = 16  # of job ids, compared one by one
_NOT_KNOWN: Final[Values] = {}
_TIME: Final = pa.timestamp("s", tz="UTC")


@dataclass(frozen=True, slots=True)
class _Condition:
    """One that a row must meet.

    Args:
        columns: it looks at.
        spans: whether a row group with these statistics may have such a row.
        rows: which rows of a table may be.
        values: whether a file with these may have such a row.
    """

    columns: tuple[str, ...]
    spans: Callable[[Spans], bool]
    rows: Callable[[Any], Any]
    values: Callable[[Values], bool] = lambda values: True


@dataclass(slots=True)
class Prefilter:
    """All conditions of one question."""

    _conditions: list[_Condition] = field(default_factory=list)

    @classmethod
    def of(cls, criteria: Iterable[tuple[bytes, bytes]]) -> Prefilter:
        """That of these criteria; alternatives of a name stand beside each other in them."""
        asked: dict[str, list[str]] = {}
        for key, value in criteria:
            asked.setdefault(key.decode(), []).append(value.decode("utf-8", "surrogateescape"))
        own = cls()
        own._add_window(asked)
        if "job" in asked:
            own._add_ids(asked["job"])
        for name in NUMBERS:
            if name in asked:
                own._add_numbers(name, _numbers(asked[name]))
        for name in _TEXTS:
            if name in asked:
                own._add_texts(name, asked[name])
        if "viewer" in asked:
            own._add_viewer(int(asked["viewer"][0]), asked.get("viewer_account", []))
        return own

    @classmethod
    def of_job_ids(cls, ids: Iterable[int]) -> Prefilter:
        """That of rows whose job id is one of these, array and het jobs not meant."""
        numbers = set(ids)
        own = cls()
        own._add_numbers("job_id", numbers)
        return own

    @property
    def columns(self) -> list[str]:
        """What `rows` wants to see."""
        return sorted({name for condition in self._conditions for name in condition.columns})

    def may_hold(self, spans: Spans, values: Values = _NOT_KNOWN) -> bool:
        """Whether a row group, or a file, of which this is known may have a row that matches."""
        return all(condition.spans(spans) and condition.values(values) for condition in self._conditions)

    def rows(self, table: Any) -> bytearray:
        """A 1 for each row that may match, else 0."""
        mask = None
        for condition in self._conditions:
            found = pc.fill_null(condition.rows(table), False)
            mask = found if mask is None else pc.and_(mask, found)
        if mask is None:
            return bytearray(b"\1" * int(table.num_rows))
        return _flags(mask.cast(pa.uint8()))

    # ---- conditions ----------------------------------------------------------------------------------------------

    def _add_window(self, asked: Mapping[str, list[str]]) -> None:
        since = int(asked["start"][0]) if "start" in asked else None
        until = int(asked["end"][0]) if "end" in asked else None
        if "state" in asked:
            if not {0, 1} & _numbers(asked["state"]):  # those two ask for more than the end
                self._add_times("end", since, until)
            return
        if since is not None:
            self._add_times("end", since, None)
        if until:
            self._add_times("submit" if "job" in asked else "eligible", None, until - 1)

    def _add_times(self, name: str, low: int | None, high: int | None) -> None:
        """Times from `low` to `high`, both included, None for no bound; 0 is stored as null."""
        if low is None and high is None:
            return
        if name == "submit" and high is not None:
            # a job of which it isn't known was submitted at 0
            self._conditions.append(
                _Condition((name,), lambda spans: True, lambda table: pc.or_kleene(
                    pc.is_null(table[name]), pc.less_equal(table[name], _moment(high))
                ))
            )  # fmt: skip
            return

        def spans(found: Spans) -> bool:
            if name not in found:
                return True
            span = found[name]
            return span is not None and (low is None or span[1] >= low) and (high is None or span[0] <= high)

        def rows(table: Any) -> Any:
            column, found = table[name], None
            if low is not None:
                found = pc.greater_equal(column, _moment(low))
            if high is not None:
                below = pc.less_equal(column, _moment(high))
                found = below if found is None else pc.and_(found, below)
            return found

        self._conditions.append(_Condition((name,), spans, rows))

    def _add_ids(self, values: Iterable[str]) -> None:
        ranges = [
            (int(match[1]), int(match[2] or match[1])) for value in values for match in _ID.finditer(value)
        ]  # fmt: skip
        if not ranges:
            return
        single = pa.array(sorted({low for low, high in ranges if low == high and low < 2**32}), pa.uint32())
        wide = [pair for pair in ranges if pair[0] != pair[1]]
        if len(wide) > _RANGES_MAX:
            wide = [(min(low for low, _ in wide), max(high for _, high in wide))]
        lowest, highest = min(low for low, _ in ranges), max(high for _, high in ranges)

        def spans(found: Spans) -> bool:
            if not all(name in found for name in _IDS):
                return True
            known = [span for name in _IDS if (span := found.get(name)) is not None]
            known = [span for span in known if span[0] <= highest and span[1] >= lowest]
            if len(ranges) > 1000:
                return bool(known)
            return any(span[0] <= high and span[1] >= low for low, high in ranges for span in known)

        def rows(table: Any) -> Any:
            found = None
            for name in _IDS:
                column = table[name]
                parts = [pc.is_in(column, single)] if len(single) else []
                parts += [pc.and_(pc.greater_equal(column, low), pc.less_equal(column, high)) for low, high in wide]
                for part in parts:
                    known = pc.fill_null(part, False)
                    found = known if found is None else pc.or_(found, known)
            return found

        self._conditions.append(_Condition(_IDS, spans, rows))

    def _add_numbers(self, name: str, numbers: set[int]) -> None:
        ordered = sorted(number for number in numbers if number < 2**32)
        wanted = pa.array(ordered, pa.uint32())

        def spans(found: Spans) -> bool:
            if name not in found:
                return True
            span = found[name]
            return span is not None and bisect_left(ordered, span[0]) < bisect_right(ordered, span[1])

        self._conditions.append(
            _Condition((name,), spans, lambda table: pc.is_in(table[name], wanted), _one_of(name, ordered))
        )

    def _add_texts(self, name: str, values: Iterable[str]) -> None:
        wanted = list(values)
        if not all(value and value.isascii() for value in wanted):
            return
        asked = sorted({folded(name, value) for value in wanted})
        self._conditions.append(_Condition((name,), lambda spans: True, _text_test(name, asked), _one_of(name, asked)))

    def _add_viewer(self, uid: int, accounts: list[str]) -> None:
        if not all(account.isascii() for account in accounts):
            return
        theirs = sorted({folded("account", account) for account in accounts})
        is_theirs = _text_test("account", theirs)
        has_own, has_theirs = _one_of("uid", [uid]), _one_of("account", theirs)

        def rows(table: Any) -> Any:
            own = pc.equal(table["uid"], pa.scalar(uid, pa.uint32()))
            return pc.or_(pc.fill_null(own, False), pc.fill_null(is_theirs(table), False))

        self._conditions.append(
            _Condition(
                ("account", "uid"), lambda spans: True, rows, lambda values: has_own(values) or has_theirs(values)
            )
        )


def _flags(column: Any) -> bytearray:
    """The bytes of a column of uint8."""
    flags = bytearray()
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        flags += memoryview(chunk.buffers()[1])[chunk.offset : chunk.offset + len(chunk)]
    return flags


def folded(name: str, value: Any) -> Any:
    """A column's value as it is compared."""
    return lower(value) if name in _FOLDED else value


def _text_test(name: str, wanted: Iterable[str]) -> Callable[[Any], Any]:
    """Whether rows have one of these, which are folded."""
    texts = pa.array(wanted, pa.string())
    if name not in _FOLDED:
        return lambda table: pc.is_in(table[name], texts)
    return lambda table: pc.is_in(pc.ascii_lower(table[name]), texts)


def _one_of(name: str, wanted: Sequence[Any]) -> Callable[[Values], bool]:
    """Whether a file has one of these in a column, as far as one knows."""

    def test(values: Values) -> bool:
        known = values.get(name)
        return known is None or any(
            (place := bisect_left(known, each)) < len(known) and known[place] == each for each in wanted
        )

    return test


def _numbers(values: Iterable[str]) -> set[int]:
    return {int(part) for value in values for part in value.split(",")}


def _moment(seconds: int | None) -> Any:
    return pa.scalar(seconds, pa.int64()).cast(_TIME)
