# SPDX-License-Identifier: MIT
"""A record's way in: ingest.sock, and the commit that comes before every answer."""
