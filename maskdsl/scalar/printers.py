"""Scalar expressions as text for each reader: PyTorch, Triton, the language itself, and people."""

from __future__ import annotations

from collections.abc import Mapping

import sympy

from maskdsl.scalar import torch_text, triton_text
from maskdsl.scalar.text import DslPrinter, MathPrinter


def to_torch(expr: sympy.Expr, names: Mapping[str, str]) -> str:
    """Python source on torch tensors, to be run where `torch` and `math` are imported.

    `names` maps the names of symbols to source; a symbol that it lacks, such as a dimension, prints as its own name.
    Sizes alone are computed in plain Python, so that a constant expression gives a number.
    """
    return str(torch_text.TorchPrinter(names).doprint(torch_text.lower(expr)))


def to_triton(expr: sympy.Expr, names: Mapping[str, str]) -> str:
    """Triton source on float32 values, to be run where `tl` is `triton.language` and `tiles` holds the tile functions.

    `names` is as in `to_torch`. Dimensions must be compile-time constants there. Raises ValueError
    for a function of dimensions other than a power.
    """
    return str(triton_text.TritonPrinter(names).doprint(triton_text.lower(expr)))


def to_dsl(expr: sympy.Expr) -> str:
    """The language's own notation, which reads back to an equal expression."""
    return str(DslPrinter().doprint(expr))


def to_math(expr: sympy.Expr) -> str:
    """Mathematics in unicode, as in `-exp(A_log)·softplus(a + dt_bias)`."""
    return str(MathPrinter().doprint(expr)).replace("*", "·")
