# SPDX-License-Identifier: MIT
"""The spool's way to Redis, in order, exactly once, each shard at its own pace."""
