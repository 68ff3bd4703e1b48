# SPDX-License-Identifier: MIT
"""`python -m slurmjcd` is `slurmjcd`."""

from slurmjcd.cli import main

if __name__ == "__main__":
    main()
