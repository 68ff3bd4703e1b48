# SPDX-License-Identifier: MIT
"""Moving all jobs from N shards to M, beside a daemon that goes on with N: what `slurmjc reshard` does."""
