# SPDX-License-Identifier: MIT
"""Job states as Slurm numbers, names and abbreviates them."""

from __future__ import annotations

from typing import Final

_STATES: Final = (
    ("PENDING", "PD"), ("RUNNING", "R"), ("SUSPENDED", "S"), ("COMPLETED", "CD"), ("CANCELLED", "CA"), ("FAILED", "F"),
    ("TIMEOUT", "TO"), ("NODE_FAIL", "NF"), ("PREEMPTED", "PR"), ("BOOT_FAIL", "BF"), ("DEADLINE", "DL"),
    ("OUT_OF_MEMORY", "OOM"),
)  # fmt: skip
_FLAGS: Final = {
    "REQUEUED": ("RQ", 1 << 10), "REQUEUE_HOLD": ("RH", 1 << 11), "SPECIAL_EXIT": ("SE", 1 << 12),
    "RESIZING": ("RS", 1 << 13), "REVOKED": ("RV", 1 << 19), "REQUEUE_FED": ("RF", 1 << 20),
}  # fmt: skip

NUMBERS: Final = {
    name: number
    for number, names in enumerate(_STATES)
    for name in names
} | {name: flag for long, (short, flag) in _FLAGS.items() for name in (long, short)}  # fmt: skip
_FLAG_NAMES: Final = {flag: name for name, (_, flag) in _FLAGS.items()}
FLAGS_MASK: Final = sum(_FLAG_NAMES)  # flags that are shown instead of the base state
# for the criterion `state`: every way to end. With it the window is that of a job's end, and one that never became
# eligible is in it.
ENDED: Final = ",".join(str(number) for number in [*range(2, len(_STATES)), *_FLAG_NAMES])


def is_base_state(state: int) -> bool:
    """Whether there is a name for it."""
    return 0 <= state < len(_STATES)


def state_name(state: int, flags: int | None) -> str:
    """The name sacct shows: that of a flag which says more than the base state, else the base state's."""
    for flag, name in _FLAG_NAMES.items():
        if flags and flags & flag:
            return name
    return _STATES[state][0] if is_base_state(state) else str(state)


def state_number(name: str) -> int:
    """The number for a state's name in either form.

    Raises:
        ValueError: there is no such state; the text lists them.
    """
    number = NUMBERS.get(name.strip().upper())
    if number is None:
        names = ", ".join([long for long, _ in _STATES] + list(_FLAGS))
        raise ValueError(f"unknown job state '{name}', expected one of {names}")
    return number


def exit_status(status: int | None) -> tuple[int, int] | None:
    """Exit code and signal of a wait status."""
    if status is None:
        return None
    number = status & 0x7F
    if number:
        return 0, number
    return (status >> 8) & 0xFF, 0
