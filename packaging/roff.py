# SPDX-License-Identifier: MIT
"""Manual pages in man(7)'s macros: text escaped, so that no word of it is taken for a request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_SPECIAL = str.maketrans(
    {"\\": "\\e", "-": "\\-", "^": "\\(ha", "~": "\\(ti", "`": "\\(ga", "'": "\\(aq", '"': "\\(dq"}
)


def escape(text: str) -> str:
    """Text that stands for itself wherever a line of a page may have it."""
    out = text.translate(_SPECIAL)
    return re.sub(r"(?m)^\.", "\\&.", out)


def bold(text: str) -> str:
    return f"\\fB{escape(text)}\\fR"


def italic(text: str) -> str:
    return f"\\fI{escape(text)}\\fR"


def _lines(text: str, width: int = 76) -> list[str]:
    """Source lines that man fills by itself; a long one is a nuisance to who reads the source, and to mandoc."""
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + len(word) >= width:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return [*lines, line] if line else lines


class Page:
    """One page, built from the top down."""

    def __init__(self, name: str, section: int, summary: str, version: str, date: str) -> None:
        """Args:
        name: as one would type it after `man`, without blanks.
        summary: what whatis(1) shows, without a full stop.
        date: year-month-day.
        """
        self.name = name
        self.section = section
        self._out = [
            f'.TH {name.upper()} {section} {date} "slurmjcd {version}" "slurmjcd"',
            ".SH NAME",
            f"{escape(name)} \\- {escape(summary)}",
        ]

    @property
    def file_name(self) -> str:
        return f"{self.name}.{self.section}"

    def heading(self, title: str) -> None:
        self._out.append(f".SH {title}")

    def text(self, words: str) -> None:
        """A paragraph; the words are escaped already."""
        if not self._out[-1].startswith(".SH"):
            self._out.append(".PP")
        self._out += _lines(words)

    def term(self, head: str, words: str) -> None:
        """An entry of a list: its head, already escaped, and what it means, which is escaped here."""
        self._out += [".TP", head, *_lines(escape(words))]

    def preformatted(self, lines: Iterable[str]) -> None:
        self._out += [".PP", ".nf", *(escape(line) for line in lines), ".fi"]

    def see_also(self, pages: Sequence[tuple[str, int]]) -> None:
        self.heading("SEE ALSO")
        self._out.append(
            ",\n".join(f"{bold(name)}({section})" for name, section in sorted(pages, key=lambda p: p[::-1]))
        )

    def __str__(self) -> str:
        return "\n".join(self._out) + "\n"
