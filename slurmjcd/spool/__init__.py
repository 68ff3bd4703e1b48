# SPDX-License-Identifier: MIT
"""Records on disk before they are acknowledged, kept until Redis has them; and what is left of a damaged file."""
