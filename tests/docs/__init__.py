# SPDX-License-Identifier: MIT
"""The pages in docs/: each command on them is run against real parts."""
