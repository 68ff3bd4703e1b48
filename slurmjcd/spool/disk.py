# SPDX-License-Identifier: MIT
"""What has to be on disk before something else may happen."""

from __future__ import annotations

import os
from pathlib import Path


def sync_directory(directory: Path) -> None:
    """Have the names in it on disk; a file's own fsync brings its contents only.

    Raises:
        OSError: it failed, so they may not be.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
