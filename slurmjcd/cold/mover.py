# SPDX-License-Identifier: MIT
"""A pass as a process of its own, at the lowest priority: `python -m slurmjcd.cold.mover`.

The daemon writes the configuration to stdin as a line of JSON and leaves stdin open: when that ends, so does this. On
stdout is a line of JSON for each thing done (see moving.Pass), and an `error` with a text when it fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import threading
import time
from typing import Any, Final

from slurmjcd.cold.engine import Engine
from slurmjcd.cold.hot import HotDays
from slurmjcd.cold.moving import Pass
from slurmjcd.cold.reader import ColdDays
from slurmjcd.config.settings import Config
from slurmjcd.errors import SlurmjcdError
from slurmjcd.store.layout import StoreLayout
from slurmjcd.store.store import Store

_LOWEST: Final = 19


def tell(event: dict[str, Any]) -> None:
    """Write a line for the daemon."""
    print(json.dumps(event), flush=True)


def run(config: Config) -> None:
    """One pass.

    Raises:
        SlurmjcdError: it could not be done, or not to the end.
    """
    section = config.cold
    assert section.dir is not None
    with asyncio.Runner() as runner:
        store = store_of(config, runner)
        runner.run(_refuse_moving_jobs(store))
        hot = HotDays(store, runner)
        try:
            if not Pass(section, hot, ColdDays(section.dir, Engine(section.engine)), tell).run(time.time()):
                tell({"busy": True})
        finally:
            hot.close()


async def _refuse_moving_jobs(store: Store) -> None:
    """A day that leaves one layout while it is copied to another would not be missed there.

    Raises:
        Unavailable: jobs lie, or are to lie, in another number of shards.
    """
    layout = StoreLayout(store, writes=True)
    try:
        await layout.check_writing()
    except BaseException:
        await store.close()
        raise
    finally:
        await layout.close()


def store_of(config: Config, runner: asyncio.Runner) -> Store:
    """Made where there is a loop, which its parts want."""

    async def make() -> Store:
        return Store(config)

    return runner.run(make())


def _end_with_the_daemon() -> None:
    sys.stdin.read()
    os._exit(1)


def main() -> int:
    with contextlib.suppress(OSError):  # a sandbox may forbid even that
        os.nice(_LOWEST)
    config = Config.model_validate_json(sys.stdin.readline())
    threading.Thread(target=_end_with_the_daemon, daemon=True).start()
    try:
        run(config)
    except SlurmjcdError as exc:
        tell({"error": str(exc)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
