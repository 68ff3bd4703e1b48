# SPDX-License-Identifier: MIT
"""slurmjc: the command line client. It imports as little as it can, because it is called in loops."""
