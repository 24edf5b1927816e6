"""What a step is timed against: softmax attention over a cache, and published recurrent kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch.nn.functional import scaled_dot_product_attention

from maskdsl.runtime.benchmark.decoder import Decoder
from maskdsl.runtime.benchmark.measure import sentence
from maskdsl.runtime.benchmark.operators import FLA, Operator
from maskdsl.runtime.benchmark.peers import Unfit
from maskdsl.runtime.benchmark.problem import Problem, Tensors
from maskdsl.runtime.state import State


def _recurrent(name: str, function: str, gate: str = "g") -> Operator:
    """The recurrent kernel beside a chunkwise one; `gate` is how it calls log decays."""
    chunkwise = FLA[name]

    def operands(x: Tensors) -> Tensors:
        return {gate if each == "g" else each: value for each, value in chunkwise.operands(x).items()}

    return replace(chunkwise, function=function, operands=operands)


RECURRENT = {
    "linear_attention": _recurrent("linear_attention", "fused_recurrent_linear_attn"),
    "retention": _recurrent("retention", "fused_recurrent_simple_gla"),
    "simple_gla": _recurrent("simple_gla", "fused_recurrent_simple_gla"),
    "mamba2": _recurrent("mamba2", "fused_recurrent_simple_gla"),
    "gla": _recurrent("gla", "fused_recurrent_gla", gate="gk"),
    "hgrn2": _recurrent("hgrn2", "fused_recurrent_gla", gate="gk"),
    "deltanet": _recurrent("deltanet", "fused_recurrent_delta_rule"),
    "gated_deltanet": _recurrent("gated_deltanet", "fused_recurrent_gated_delta_rule"),
    "kda": _recurrent("kda", "fused_recurrent_kda"),
}
"""fla's recurrent kernels, by the definition that they compute a step of."""


def softmax(problem: Problem, position: int, inputs: Tensors, state: State) -> Decoder:
    """Softmax attention over a cache of as many heads, keys and values of the value size."""
    batch, _, heads, width = problem.output
    shape = batch, heads, position + 1, width
    k, v = (torch.randn(shape, device=problem.device, dtype=problem.dtype) for _ in range(2))
    q = torch.randn(batch, heads, 1, width, device=problem.device, dtype=problem.dtype)
    return Decoder(lambda: scaled_dot_product_attention(q, k, v), k.nbytes + v.nbytes + 2 * q.nbytes)


def fla(problem: Problem, position: int, inputs: Tensors, state: State) -> Decoder:
    """fla's recurrent kernel for one token, from the same state to a new one."""
    operator = RECURRENT.get(problem.spec.name)
    if operator is None:
        raise Unfit(f"'fla' has no recurrent kernel for '{problem.spec.name}'.")
    if problem.device == "cpu":
        raise Unfit("'fla' is timed on a GPU only.")
    (before,) = (x.clone() for _, _, x in state.buffers())
    options = {**operator.options, "initial_state": before, "output_final_state": True}
    try:
        run = replace(operator, options=options).load()
    except Exception as error:  # it looks at the GPU and its compiler while it loads
        raise Unfit(f"'fla' cannot be imported ({sentence(error)}).") from error
    operands = operator.prepare(inputs)
    moved = sum(x.nbytes for x in operands.values()) + 2 * before.nbytes
    return Decoder(lambda: run(operands), moved)


Peer = Callable[[Problem, int, Tensors, State], Decoder]

PEERS: dict[str, Peer] = {"softmax": softmax, "fla": fla}
"""Each makes its decoder for a problem, the token's inputs and the state before it, or raises `Unfit`."""
