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
