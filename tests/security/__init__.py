# SPDX-License-Identifier: MIT
"""What a hostile user of this host can do: nothing. Attacks run as uids without privilege."""
