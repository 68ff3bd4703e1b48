# SPDX-License-Identifier: MIT
"""These need MariaDB and Slurm's plugin for it, and half a minute: `make test-import` runs them."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("SLURMJCD_HISTORIES") == "all" else ["test_*.py"]
