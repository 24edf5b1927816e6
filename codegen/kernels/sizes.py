"""Sizes in scalar expressions of kernels."""

from __future__ import annotations

from collections.abc import Mapping

import sympy

from maskdsl.codegen.kernels.kernel import Kernel
from maskdsl.scalar.symbols import symbol


def with_sizes(expr: sympy.Expr, known: Mapping[str, int], kernel: Kernel) -> tuple[sympy.Expr, dict[str, str]]:
    """An expression with the sizes put in that the text knows, and the names of those that a call brings."""
    expr = expr.subs({s: known[s.name] for s in expr.free_symbols if s.name in known})
    given = {s: symbol(f"{s.name}_size") for s in expr.free_symbols if s.name in ("B", "T", "H", "L")}
    names = {made.name: f"({kernel.whole_size(s.name)} * 1.0)" for s, made in given.items()}
    return expr.xreplace(given), names
