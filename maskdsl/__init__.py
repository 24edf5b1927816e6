"""A compiler for structured-mask attention: a ten-line spec becomes chunkwise forward and backward programs.

attention = maskdsl.compile("log_linear_mamba2")
o = attention(q=q, k=k, v=v, ...)
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskdsl.diagnostics import CallError, SpecError

if TYPE_CHECKING:
    from maskdsl.runtime.compiled import Attention, Backend

__all__ = ["CallError", "SpecError", "compile", "library"]
__version__ = "0.1.0"


def compile(
    spec: str | Path, backend: Backend = "auto", *, name: str | None = None, chunk: int | None = None
) -> Attention:
    """A spec as a differentiable function of its inputs.

    `spec` is a library name, the path of a `.mask` file, or the text itself; `name` picks one of several blocks of a
    file. `backend` is "auto", "torch" or "triton". `chunk` overrides the number of positions a chunk (under a
    hierarchy, a power of its base). Raises `SpecError` for a spec with mistakes and ValueError for any other argument
    that is wrong.
    """
    from maskdsl.library.resolve import resolve
    from maskdsl.runtime.compiled import Attention

    return Attention(resolve(spec, name), backend, chunk)


def __getattr__(name: str) -> Any:
    # subpackages that need torch load on first use
    if name in ("library", "runtime"):
        return importlib.import_module(f"maskdsl.{name}")
    raise AttributeError(f"module 'maskdsl' has no attribute '{name}'")
