# SPDX-License-Identifier: MIT
"""Whether the store has every job that another account of the same cluster has: runs compared one by one.

The other account is read as an import reads it (slurmjcd/importing): what sacct prints from slurmdbd (live.py asks it),
or a log in a file. pairing.py sets both sides against each other; what it finds missing, `slurmjc verify` imports.
"""
