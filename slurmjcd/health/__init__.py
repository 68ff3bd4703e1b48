# SPDX-License-Identifier: MIT
"""How the daemon is: /healthz, /readyz, /metrics, the status page, and what they are made of."""
