# SPDX-License-Identifier: MIT
"""Real servers for tests and demo, each in a directory of its own, stopped by the process id that was kept."""

from tests.harness.daemon import Daemon
from tests.harness.munge import Munge
from tests.harness.paths import MODULE, PLUGIN, ROOT
from tests.harness.process import Process
from tests.harness.redis_server import RedisServer
from tests.harness.rundir import run_dir
from tests.harness.slurm import SlurmCluster
from tests.harness.slurm_conf import SlurmOptions
from tests.harness.waiting import scaled, wait_until

__all__ = [
    "MODULE",
    "PLUGIN",
    "ROOT",
    "Daemon",
    "Munge",
    "Process",
    "RedisServer",
    "SlurmCluster",
    "SlurmOptions",
    "run_dir",
    "scaled",
    "wait_until",
]
