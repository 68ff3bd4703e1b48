# SPDX-License-Identifier: MIT
"""`python -m tests.page.measure [jobs]`: how long the page, a search and a report take over a year of jobs."""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final
from urllib.request import Request, urlopen

from tests.page.conftest import TOKEN, settings_with_token
from tests.page.site import Site, running_site
from tests.slurmjcd.jobs import job

_YEAR_S: Final = 365 * 86_400
_ROUNDS: Final = 9
_BATCH: Final = 500
_QUESTIONS: Final = (
    "",
    "api/history",
    "api/jobs?starttime=now-24hours",
    "api/jobs?starttime=1971-01-01",
    "api/jobs?starttime=1971-01-01&limit=500",
    "api/jobs?starttime=1971-01-01&user=u7",
    "api/jobs?jobs=4711",
    "api/report?by=user&starttime=1971-01-01",
)


def fill(site: Site, count: int) -> None:
    """Put that many jobs of 300 users into Redis, which ended at random in the last year."""
    now = int(time.time())
    ends = sorted(now - random.randrange(_YEAR_S) for _ in range(count))
    with site.redis.client() as client:
        for first in range(0, count, _BATCH):
            records = [_job(first + at + 1, end) for at, end in enumerate(ends[first : first + _BATCH])]
            client.execute_command("SLURMJC.PUT", "job", "RECORDS", *records)


def _job(number: int, end: int) -> bytes:
    return job(number, user=f"u{number % 300}", submit=end - 100, eligible=end - 100, start=end - 60, end=end)


def ask(site: Site, path: str) -> tuple[list[float], bytes]:
    """Milliseconds of each round, and the last answer."""
    took_ms, body = [], b""
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        with urlopen(Request(site.url + path, headers={"Authorization": f"Bearer {TOKEN}"}), timeout=20) as answer:
            body = answer.read()
        took_ms.append(1000 * (time.perf_counter() - began))
    return took_ms, body


def _found(path: str, body: bytes) -> str:
    if not path.startswith(("api/jobs", "api/report")):
        return f"{len(body):,} bytes"
    document: dict[str, Any] = json.loads(body)
    rows = document.get("jobs", document.get("groups", []))
    return f"{len(rows)} rows" + (f" of {document['meta']['runs']:,}" if "runs" in document["meta"] else "")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as directory, running_site(settings_with_token(Path(directory))) as site:
        fill(site, count)
        for path in _QUESTIONS:
            took_ms, body = ask(site, path)
            print(f"/{path:<46} {statistics.median(took_ms):8.1f} ms, at most {max(took_ms):.1f}; {_found(path, body)}")


if __name__ == "__main__":
    main()
