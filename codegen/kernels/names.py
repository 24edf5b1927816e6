"""Names for values in generated text that nothing else there has."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable

from maskdsl.codegen.kernels.kernel import RESERVED

CLAIMED = re.compile(r"(t|in|start)_.*[^_]|.*_(ptr|b|t|h|k|l|sums|per|rows|part|out|after|shares|reach|reads)")
"""Names that generated text makes of others: positions of a chunk, strides and parts of a tensor."""


def names_of(values: Iterable[str]) -> dict[str, str]:
    """A name for each value: its own where that is free."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for value in values:
        name = value.replace(".", "_")
        while name in RESERVED or CLAIMED.fullmatch(name) or keyword.iskeyword(name) or name in taken:
            name += "_"
        taken.add(name)
        names[value] = name
    return names
