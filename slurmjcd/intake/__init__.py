# SPDX-License-Identifier: MIT
"""Records from sites without our plugin: what Slurm's own jobcomp/elasticsearch posts."""
