# SPDX-License-Identifier: MIT
"""Jobs pushed to who waits for them: the event streams of all shards, followed once for everybody."""
