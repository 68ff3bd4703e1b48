# SPDX-License-Identifier: MIT
"""One import from its first item to its last: read a batch, ask what is there, store the rest, go on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from slurmjcd import record
from slurmjcd.config.settings import RedisSection
from slurmjcd.errors import BadRecord
from slurmjcd.importing.item import Item, Source
from slurmjcd.importing.lengths import may_be_long, shortened
from slurmjcd.importing.refused import RefusedFile
from slurmjcd.importing.target import Target, is_there

_REASONS_KEPT: Final = 100
_FUTURE_S: Final = 300  # what two clocks may differ by


@dataclass(slots=True)
class Summary:
    """What became of each item: `read` is the sum of the others but `earlier_run`."""

    read: int = 0
    stored: int = 0
    already_there: int = 0
    left_out: int = 0  # steps, and jobs that have not ended
    expired: int = 0  # ended longer ago than the store keeps jobs
    refused: int = 0
    earlier_run: int = 0  # items that a run of the same import took before it was stopped
    reasons: list[tuple[str, str]] = field(default_factory=list)  # place and reason of the first refused ones


@dataclass(slots=True)
class _Batch:
    first: int
    items: list[Item]
    records: list[bytes] = field(default_factory=list)
    sent: int = 0


class Import:
    """Moves a source's items into the target. `dry` does all but storing."""

    def __init__(
        self, source: Source, target: Target, refused: RefusedFile, config: RedisSection, *, dry: bool,
        tick: Callable[[int], None],
    ) -> None:  # fmt: skip
        self._source, self._target, self._refused, self._config = source, target, refused, config
        self._dry, self._tick = dry, tick
        self._spool = f"import-{source.identity[:32]}" if source.identity else None
        self.summary = Summary()

    async def run(self) -> Summary:
        """Import all of it.

        Raises:
            StoreError: Redis did not take it; run again, it goes on behind what was taken.
            WrongFormat: the source ends in something else.
        """
        after = self._begin()
        waiting: _Batch | None = None
        batches = self._batches(after)
        while True:
            batch = next(batches, None)
            if batch is not None:
                await self._target.ask(batch.items)
            if waiting is not None:
                await self._finish(waiting)
            if batch is None:
                break
            self._encode(batch, await self._target.known())
            await self._send(batch)
            waiting = batch
        self._refused.flush()
        await self._target.settle()
        return self.summary

    def _begin(self) -> int:
        """How many items an earlier run of this import took. One that had taken all is looked through again."""
        after = self._target.watermarks.get(self._spool, 0) if self._spool else 0
        if self._dry or after == 0 or (self._source.total and after >= self._source.total):
            # a watermark never goes back, so this pass does without: what is there is found there
            self._spool = self._spool if after == 0 and not self._dry else None
            return 0
        self._refused.go_on(after)
        self.summary.earlier_run = after
        self._tick(after)
        return after

    def _batches(self, after: int) -> Iterator[_Batch]:
        items, first = self._source.items(after), after + 1
        while part := list(islice(items, self._config.batch_records)):
            yield _Batch(first, part)
            first += len(part)

    # ---- one batch -----------------------------------------------------------------------------------------------

    def _encode(self, batch: _Batch, known: dict[int, list[Any]]) -> None:
        """The records to send; an empty one for each item that needs none."""
        now, summary = int(time.time()), self.summary
        for number, item in enumerate(batch.items, batch.first):
            blob = b""
            fields = item.fields
            if fields is not None and fields["end"] > now + _FUTURE_S:
                item.refused = "it ended in the future: is --timezone that of the source, and this host's clock right?"
            elif fields is not None and not fields["end"]:
                item.refused = "its end is unknown"
            if item.refused:
                self._refuse(number, item)
            elif fields is None:
                summary.left_out += 1
            elif self._config.ttl_s and fields["end"] + self._config.ttl_s <= now:
                summary.expired += 1
            elif any(is_there(item, run) for run in known.get(fields["job_id"], ())):
                summary.already_there += 1
            else:
                blob = self._record(number, item)
                batch.sent += bool(blob)
            batch.records.append(blob)
        summary.read += len(batch.items)

    def _record(self, number: int, item: Item) -> bytes:
        """The item's record; empty when it can't be written as one."""
        assert item.fields is not None
        try:
            blob = record.encode(item.fields)
            return record.encode(shortened(item.fields)) if may_be_long(blob) else blob
        except (ValueError, TypeError, OverflowError) as exc:  # half a character, a number of 65 bits
            item.refused = f"can't be a record: {exc}"
            self._refuse(number, item)
            return b""

    async def _send(self, batch: _Batch) -> None:
        self._refused.flush()
        if self._dry:
            self.summary.stored += batch.sent
            self._tick(len(batch.items))
            return
        await self._target.put(batch.records, (self._spool, batch.first) if self._spool else None)

    async def _finish(self, batch: _Batch) -> None:
        if self._dry:
            return
        while True:
            try:
                stored = await self._target.stored()
            except BadRecord as exc:
                self._take_out(batch, exc)
                await self._send(batch)
                continue
            break
        self.summary.stored += stored
        # the question missed these: an identical record came twice in the source, or a batch was resent
        self.summary.already_there += batch.sent - stored
        self._tick(len(batch.items))

    def _take_out(self, batch: _Batch, exc: BadRecord) -> None:
        """The record that the store refuses."""
        numbers = [at for at, blob in enumerate(batch.records) if blob or self._spool]
        at = numbers[exc.index]
        item = batch.items[at]
        item.refused = f"the store refuses it: {exc.why}"
        batch.records[at] = b""
        batch.sent -= 1
        self._refuse(batch.first + at, item)

    def _refuse(self, number: int, item: Item) -> None:
        self.summary.refused += 1
        if len(self.summary.reasons) < _REASONS_KEPT:
            self.summary.reasons.append((item.place, item.refused))
        if not self._dry:
            self._refused.add(number, item)


def by_reason(summary: Summary) -> list[tuple[str, int]]:
    """The reasons that were kept, most frequent first."""
    return Counter(reason for _, reason in summary.reasons).most_common()
