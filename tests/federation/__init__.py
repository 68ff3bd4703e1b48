# SPDX-License-Identifier: MIT
"""A federation of two real slurmctlds with one slurmdbd and one store: part of `make test-accounting`, a minute.

Each sibling of a job has the job's id, with the id of the cluster where it was submitted in its top six bits. The one
that runs makes a record; those that are revoked make one each, and the one where it was submitted up to two.
"""
