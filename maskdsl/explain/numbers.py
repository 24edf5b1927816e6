"""Numbers and tables as plain text."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table

WIDTH = 110


def printed(*tables: Table) -> str:
    """Tables below each other."""
    text = io.StringIO()
    console = Console(file=text, width=WIDTH, color_system=None)
    for table in tables:
        console.print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())


def si(number: float) -> str:
    """Three digits and a decimal prefix."""
    for power, unit in ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 10**power:
            return f"{number / 10**power:.3g} {unit}"
    return f"{number:.3g}"


def bytes_of(number: float) -> str:
    """Four digits and a binary unit."""
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if number >= 1 << power:
            return f"{number / (1 << power):.4g} {unit}"
    return f"{number:.4g} B"
