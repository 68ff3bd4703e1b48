# SPDX-License-Identifier: MIT
"""RDB files kept for ever: each version that changes the encoding adds its own, and all of them have to load.

`python -m tests.module.make_corpus v1` makes the files of encoding version 1 with the module that is built; kept files
are never made anew. Beside each `<name>.rdb` is `<name>.json`: the records in order of completion, the watermarks, and
the digest that DEBUG DIGEST gives.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from tests.harness import RedisServer
from tests.module.conftest import Store
from tests.module.records import NOON, Job, job, pack, unpack
from tests.module.test_put import _vectors

HERE: Final = Path(__file__).parent / "corpus"
LONG: Final = 10**10


def ordinary() -> list[Job]:
    """Jobs of three days: arrays, het jobs, other clusters, strings that come once and often."""
    return [
        job(
            1000 + i,
            NOON + i * 700,
            array_job_id=1000 + i // 10 * 10 if i % 3 == 0 else None,
            array_task_id=i % 10 if i % 3 == 0 else None,
            het_job_id=1000 + i if i % 50 == 0 else None,
            het_job_offset=0 if i % 50 == 0 else None,
            user=f"user{i % 9}",
            cluster="c" if i % 7 else "d",
            state=3 if i % 4 else 5,
            exit_code=0 if i % 4 else 256,
            name=f"run {i % 13}",
            work_dir=f"/scratch/u{i % 9}/{i}",
            nodes=f"n[{i % 40 + 1}-{i % 40 + 3}]",
            node_count=3,
            tres_alloc="1=4,2=8000,4=3",
            extra={"std_out": "%j.out", "state_flags": 0x2000} if i % 11 == 0 else {},
        )
        for i in range(300)
    ]


def fill(store: Store, name: str) -> None:
    if name == "ordinary":
        store.put(*ordinary())
    elif name == "nasty":
        for vector in _vectors():
            store.call("PUT", "RECORDS", vector)
    elif name == "ttl":
        store.put(*ordinary()[:50], options=("TTL", LONG))
        store.put(*ordinary()[40:60], options=("TTL", LONG * 2))
    else:
        store.call("PUT", "SPOOL", "ring-1", 1, "RECORDS", *map(pack, ordinary()[:20]))
        store.call("PUT", "SPOOL", "spool:a.b_c", 1000, "GAP", "RECORDS", pack(job(7)), b"")


NAMES: Final = ("ordinary", "nasty", "ttl", "watermarks")


def contents(store: Store) -> dict[str, Any]:
    """What a kept file is compared by; JSON has no bytes, so strings that are not UTF-8 have surrogates."""
    store.call("MATCH", "all")
    rows: list[Job] = []
    while page := store.call("FETCH", "all", 100, "RECORDS"):
        rows += map(unpack, page)
    marks = store.info()["watermarks"]
    return {
        "jobs": rows,
        "watermarks": [mark.decode() if isinstance(mark, bytes) else mark for mark in marks],
        "digest": store.digest().decode(),
    }


def make(version: str) -> None:
    for name in NAMES:
        target = HERE / f"{version}-{name}.rdb"
        if target.exists():
            print(f"{target.name} is kept as it is")
            continue
        with tempfile.TemporaryDirectory(prefix="sj-") as directory:
            server = RedisServer(Path(directory))
            server.start()
            try:
                with server.client() as client:
                    fill(Store(client), name)
                    client.save()
                    target.with_suffix(".json").write_text(json.dumps(contents(Store(client)), indent=None) + "\n")
                shutil.copy(Path(directory) / "dump.rdb", target)
            finally:
                server.stop()


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    make(sys.argv[1])
