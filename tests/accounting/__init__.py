# SPDX-License-Identifier: MIT
"""`slurmjc verify` and `slurmjc export -f xdmod` beside a real slurmdbd: `make test-accounting`, two minutes.

Jobs that ended before slurmjcd was installed are in slurmdbd and not in the store: holes of the natural kind.
"""
