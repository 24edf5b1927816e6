"""A compiled spec: what `maskdsl.compile` returns."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from maskdsl.codegen.extract import function_source
from maskdsl.explain.report import explain
from maskdsl.mask.nodes import Kind
from maskdsl.runtime import cache
from maskdsl.runtime.arguments import Bound, bind
from maskdsl.runtime.build import Signature, ratios_of
from maskdsl.runtime.function import apply
from maskdsl.runtime.oracle import dense, recurrent
from maskdsl.spec import Spec

Backend = Literal["auto", "torch"]
Direction = Literal["forward", "backward"]
Oracle = Literal["dense", "recurrent"]


class Attention:
    """A compiled spec.

    Called with the inputs by name or in declared order it returns o [B, T, H, V], in the dtype that the key and value
    inputs promote to, with gradients for every input. Computation is in float64 where an input is, else in float32.
    """

    def __init__(self, spec: Spec, backend: Backend = "auto", chunk: int | None = None) -> None:
        if backend not in get_args(Backend):
            raise ValueError(f"Unknown backend '{backend}': choose one of {', '.join(get_args(Backend))}.")
        if chunk is not None and (isinstance(chunk, bool) or not isinstance(chunk, int)):
            raise ValueError(f"A chunk is a whole number of positions, not {chunk!r}.")
        self.spec = spec
        self._signature = Signature(chunk=chunk)
        self._latest = self._signature
        self._modules: dict[Signature, Any] = {}
        self._signature.lower(spec)

    def __repr__(self) -> str:
        return f"<maskdsl attention '{self.spec.name}' ({', '.join(i.name for i in self.spec.inputs)})>"

    def __getstate__(self) -> dict[str, Any]:
        # modules cannot be copied or pickled, and come from the cache again
        return vars(self) | {"_modules": {}}

    def __call__(self, /, *args: Tensor, check_inputs: bool = False, **kwargs: Tensor) -> Tensor:
        """The output of a call; raises `CallError` naming the input that is wrong.

        `check_inputs` also holds the values against the declared ranges.
        """
        bound = bind(self.spec, args, kwargs, check_inputs)
        sizes = bound.sizes
        signature = Signature(ratios_of(dict(sizes.key_heads), sizes.H), self._signature.chunk)
        self._latest = signature
        given = (sizes.B, sizes.T, sizes.H, sizes.K or 0, sizes.V or 0, sizes.L or 0)
        return apply(self._module(signature), given, bound.tensors, _result_dtype(self.spec, bound))

    def reference(self, /, *args: Tensor, oracle: Oracle = "dense", **kwargs: Tensor) -> Tensor:
        """The output in float64 by an oracle, differentiable.

        `dense` builds M[t, s] from its definition, `recurrent` goes token by token.
        """
        if oracle not in get_args(Oracle):
            raise ValueError(f"Unknown oracle '{oracle}': choose 'dense' or 'recurrent'.")
        tensors = bind(self.spec, args, kwargs).tensors
        run = dense if oracle == "dense" else recurrent
        return run(self.spec, {name: x.to(torch.float64) for name, x in tensors.items()})

    def explain(self) -> str:
        """The recurrence as mathematics, the normal form, and what training and decoding cost."""
        return explain(self.spec)

    def source(self, direction: Direction = "forward") -> str:
        """The generated program of the latest call (before any: of one whose key inputs have all heads)."""
        if direction not in get_args(Direction):
            raise ValueError(f"Unknown direction '{direction}': choose 'forward' or 'backward'.")
        return function_source(Path(self._module(self._latest).__file__).read_text(encoding="utf-8"), direction)

    def _module(self, signature: Signature) -> Any:
        if signature in self._modules:
            return self._modules[signature]
        loaded = cache.module(self.spec.name, signature.key(self.spec), lambda: signature.source(self.spec))
        self._modules[signature] = loaded
        return loaded


def _result_dtype(spec: Spec, bound: Bound) -> torch.dtype:
    """What the vectors of a call promote to; gates and weights may be wider."""
    vectors = [bound.tensors[i.name].dtype for i in spec.inputs if i.kind in (Kind.KEY, Kind.VALUE)]
    return functools.reduce(torch.promote_types, vectors)
