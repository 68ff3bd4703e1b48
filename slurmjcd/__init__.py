# SPDX-License-Identifier: MIT
"""slurmjcd keeps Slurm's completed jobs in Redis or Valkey."""

__version__ = "0.1.0"
