# SPDX-License-Identifier: MIT
"""A question's way: query.sock, who has a turn, all sources asked as one."""
