# SPDX-License-Identifier: MIT
"""What can be configured, where it is read from, and whether the machine is as it needs to be."""
