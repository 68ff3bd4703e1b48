# SPDX-License-Identifier: MIT
"""Redis or Valkey with our module: which server has what, connections to it, and what it says of itself."""
