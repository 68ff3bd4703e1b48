# SPDX-License-Identifier: MIT
"""What Slurm itself says: slurm.conf, the plugin that slurmctld will load, names of job states."""
