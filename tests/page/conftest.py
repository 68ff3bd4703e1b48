# SPDX-License-Identifier: MIT
"""What a browser makes of the status page: `make test-page`, which installs one. `make test` has no browser."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("SLURMJCD_PAGE") else ["test_*.py"]
