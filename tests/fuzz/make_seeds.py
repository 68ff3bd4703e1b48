# SPDX-License-Identifier: MIT
"""Writes the first inputs of the corpora: what is right, for the fuzzer to make wrong.

    make_seeds.py

Inputs that were kept because they once ended a target are not touched.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
CORPUS: Final = HERE / "corpus"


def command(*words: str | int | bytes) -> bytes:
    """A request in RESP."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def hello() -> bytes:
    return command("SLURMJC.HELLO", 1, "seed/1")


def put(seq: int, count: int) -> bytes:
    """Records of 38 elements; the last of them are absent."""
    record = b"\xdc\0\x26" + bytes(range(1, 38)) + b"\x80"
    return command("SLURMJC.PUT", "SPOOL", "s", seq, "RECORDS", *[record] * count)


SEEDS: Final[dict[str, dict[str, bytes]]] = {
    "nodelist": {
        "ranges": b"n[1-3,07],gpu2\nn2",
        "brackets": b"r[1-2]n[1-4]\nr2n[3-9],x",
        "suffix": b"rack1-node[01-10]-ib\nrack1-node07-ib",
    },
    "criteria": {
        "window": b"start 1641600000\nend 1641686400\nuser alice",
        "jobs": b"job 1,5-9,3_[1-3,7],4+1\nlimit 10",
        "states": b"start 0\nend 1641686400\nstate 0,1,3\nexit 1:9",
        "numbers": b"uid 0,1\nnodes_count 1-\ncpus_count -4\ntime_limit 2-6\nqos_id 1\nreason 3\ngid 2",
        "names": b"user bob\naccount batch\npartition \nname a&b\nconstraint gpu\ncluster ALICE\nqos batch\nwckey x",
        "nodes": b"node n[1-2],r05n1\nreservation \ngroup alice",
    },
    "engine": {
        "few": bytes([6, 0, 0, 1, 1, 0] * 4 + [0, 0, 5, 0, 4, 2, 1]),
        "many": bytes([15, 1, 4] + [7, 2, 0, 1, 2, 1, 4, 2, 3, 7] * 30),
    },
    "ring": {
        "empty": bytes(64),
        "records": bytes([0, 100, 0] + [1, 0, 1, 0, 0] * 4 + [1, 5] + [10] * 5 + [3, 9] + [7] * 9),
        "pad": bytes([0, 63, 12] + [2, 3, 4, 0, 0] * 4 + [235] + [5, 20] + [1] * 20),
    },
    "spill": {
        "records": bytes([0, 60, 1, 0] + [1, 5] + [10] * 5 + [3, 9] + [7] * 9),
        "torn": bytes([0, 60, 1, 0] + [1, 5] + [10] * 5 + [0xE1, 9] + [7] * 9 + [3]),
    },
    "replies": {
        "hello": b"\x20*4\r\n$17\r\nmax_request_bytes\r\n:65536\r\n$1\r\na\r\n:1\r\n\xff+OK\r\n\xff:7\r\n\xff:7\r\n",
        "gap": b"\x20*0\r\n\xff+OK\r\n-OUTOFSEQ 3\r\n\xff:1\r\n\xff-OUTOFSEQ 900\r\n",
        "bad": b"\x20*0\r\n\xff+OK\r\n-BADRECORD 0 no\r\n-BADRECORD 2 no\r\n\xff-TOOBIG x\r\n\xff-OOM y\r\n",
        "large": b"\x01*4294967295\r\n",
    },
    "resp": {
        "requests": b"\1\0" + hello() + command("SLURMJC.PUT", "SPOOL", "s", 1, "RECORDS", b"\xdc\0\1\1", b"\xdc\0\0"),
        "small": b"\0\7" + command("PING") + command("PING", b"\xff\r\n") + b"*2\r\n$4\r\nPI",
        "broken": b"\5\x11" + command("SLURMJC.PUT", "spool", "s", 1, "records", b"x") + b"*1\r\n$4294967295\r\n",
    },
    "intake": {
        "put": b"\0" + hello() + put(1, 2) + put(3, 1) + put(2, 2) + put(9, 1) + command("PING"),
        "ring": b"\x0b"
        + hello()
        + command("SLURMJC.RING", "s", "ATTEMPTED", 7, "DROPPED", 1, "SPILLED", 0)
        + command("SLURMJC.RING", "s", "ATTEMPTED", 7, "DROPPED", 1, "SPILLED", 0, "LAST_DROPPED", 3),
        "wrong": b"\5" + command("SLURMJC.HELLO", "2", "seed/1") + put(1, 1),
    },
    "question": {
        "rows": b"\0\0" + hello() + command("SLURMJC.MATCH", "q") + 2 * command("SLURMJC.FETCH", "q", "5", "RECORDS"),
        "criteria": b"\2\x13"
        + hello()
        + command("SLURMJC.MATCH", "q", "uid", "1,2", "user", "bob", "limit", "9")
        + command("SLURMJC.FETCH", "q", "100"),
        "counts": b"\3\0"
        + hello()
        + command("SLURMJC.AGG", "BY", "user", "account", "job", "1-9", "node", "n[1-3]")
        + command("SLURMJC.AGG", "BY", "day")
        + command("SLURMJC.GET", "12")
        + command("SLURMJC.INFO"),
        "shards": b"\x82\0"
        + hello()
        + command("SLURMJC.MATCH", "q", "limit", "40")
        + 2 * command("SLURMJC.FETCH", "q", "30", "RECORDS")
        + command("SLURMJC.FETCH", "q", "5")
        + command("SLURMJC.AGG", "BY", "user", "limit", "3")
        + command("SLURMJC.GET", "12")
        + command("SLURMJC.INFO"),
    },
    "restrict": {
        "uid": b"\2\5uid 1,2\nuser bob\nstate 3,1",
        "jobs": b"\1\xffjob 1,5-9,3_[1-3,7],4+1\nlimit 10\nstart 0\nend 1641686400",
        "names": b"\0\1account batch\npartition \nname a&b\nconstraint gpu\nviewer 3\nviewer_account bob",
        "numbers": b"\3\0nodes_count 1-\ncpus_count -4\ntime_limit 2-6\nqos_id 1\nreason 3\ngid 2\nexit 1:9\nUID 00003",
    },
    "http": {
        "health": b"\0GET /healthz HTTP/1.1\r\nHost: localhost:9856\r\nAccept: */*\r\n\r\n",
        "two": b"\7GET /metrics HTTP/1.1\r\nHost: [::1]:9856\r\n\r\nGET /readyz HTTP/1.0\r\n\r\n",
        "host": b"\0GET /readyz HTTP/1.1\r\nHost: evil.example\r\nConnection: keep-alive\r\n\r\n",
        "body": b"\0POST /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        b"Expect: 100-continue\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
        "upgrade": b"\0GET /healthz HTTP/1.1\r\nHost:\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nGET /",
        "page": b"\0GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n",
        "history": b"\3GET /api/history?after=12 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "jobs": b"\0GET /api/jobs?user=ada&state=F,TO&limit=5 HTTP/1.1\r\nHost: localhost\r\n"
        b"Authorization: Bearer abcdefghijklmnopqrstuvwx\r\n\r\n",
        "token": b"\0GET /api/token HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\n\r\n",
        "report": b"\0GET /api/report?by=user%2Cday HTTP/1.1\r\nHost: localhost\r\nauthorization: bearer\r\n\r\n",
        "tls": b"\0\x16\3\1\2\0\1\0\1\xfc\3\3",
    },
    "config": {
        "all": b'[daemon]\nroles = ["query"]\nslurm_user = "64030"\n[redis]\naddress = "rediss://db.example:6380"\n'
        b'ttl_s = 3_600\ndurability = "aof"\nreply_s = 0.5\n[query]\nmode = "0600"\nsocket = "/run/q"\n'
        b'[access]\nprivate_data = true\noperators = ["ada", "%admins"]\ncoordinators = { physics = ["ada"] }\n',
        "environment": b"# none\n\0\0SPOOL__MAX_BYTES=16384\0ACCESS__PRIVATE_DATA=true\0REDIS__ADDRESS=unix:/run/r\0"
        b'HEALTH__LISTEN="[::1]:0"\0DAEMON__ROLES=["ingest"]',
        "wrong": b'[spol]\nx = 1\n[ingest]\nmode = 600\nbatch_ms = inf\n[health]\nlisten = "unix:/h"\nz = 1979-05-27',
    },
    "params": {
        "all": b"/run/slurmjcd\nring_dir=/dev/shm,ring_mib=64,spill_mib=0,timeout=3,store_script,enable_job_start",
        "none": b"\x01\n\x01",
    },
}


def write(target: str, name: str, content: bytes) -> None:
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def main() -> None:
    for vector in json.loads((ROOT / "schema" / "vectors.json").read_text()):
        if "hex" in vector:
            write("record", vector["name"], bytes.fromhex(vector["hex"]))
    for target, inputs in SEEDS.items():
        for name, content in inputs.items():
            write(target, name, content)
    (CORPUS / "rdb").mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [ROOT / "build" / "fuzz" / "fuzz_rdb", "-runs=1"],
        env={**os.environ, "FUZZ_SEEDS": str(CORPUS / "rdb")},
        stderr=subprocess.DEVNULL,
        check=True,
    )


if __name__ == "__main__":
    main()
