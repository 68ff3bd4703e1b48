# SPDX-License-Identifier: MIT
"""Who comes in, how many at a time, and what they may see: sockets, peers, the policy of PrivateData."""
