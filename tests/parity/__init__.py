# SPDX-License-Identifier: MIT
"""Asks `sacct -c` and `sacct -X` the same questions about the same jobs."""
