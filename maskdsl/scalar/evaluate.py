"""Scalar expressions evaluated on tensors, without generating a file."""

from __future__ import annotations

import math
from collections.abc import Mapping

import sympy
import torch
from torch import Tensor

from maskdsl.scalar.printers import to_torch


def evaluate(expr: sympy.Expr, values: Mapping[str, Tensor | int]) -> Tensor:
    """The value of an expression whose symbols have these names; tensors broadcast."""
    source = to_torch(expr, {name: name for name in values})
    return eval(source, {"torch": torch, "math": math, **values})
