"""Published operators that compute the recurrence of a definition, and what they take.

The table is keyed by the names of the library's definitions. Gates are given as the logs that the definition computes,
and what an operator has no argument for (feature maps, the step size times the values, a skip) is prepared beforehand,
which is not timed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from maskdsl.runtime.benchmark.problem import Tensors

SKIP = "skip"
"""An operand that is added to the output."""


@dataclass(frozen=True)
class Operator:
    """A function of a package: its keyword tensors from the inputs of a definition, and its other arguments.

    `grouped` says that it takes fewer key heads than value heads; otherwise each key head is copied for its group.
    """

    module: str
    function: str
    operands: Callable[[Tensors], Tensors]
    options: Mapping[str, Any] = field(default_factory=dict)
    grouped: bool = False

    def load(self) -> Callable[[Tensors], Tensor]:
        """The function of the operands; raises what importing its package raises."""
        function = getattr(importlib.import_module(self.module), self.function)

        def run(operands: Tensors) -> Tensor:
            given = {name: x for name, x in operands.items() if name != SKIP}
            result = function(**given, **self.options)
            output = result[0] if isinstance(result, tuple) else result
            return output + operands[SKIP] if SKIP in operands else output

        return run

    def prepare(self, inputs: Tensors) -> Tensors:
        """The operands, contiguous."""
        found = {name: x.contiguous() for name, x in self.operands(inputs).items()}
        if self.grouped:
            return found
        heads = found["v"].shape[2]
        shared = {name: found[name].repeat_interleave(heads // found[name].shape[2], dim=2) for name in ("q", "k")}
        return found | shared


def _phi(x: Tensor) -> Tensor:
    return functional.elu(x) + 1


def _vectors(x: Tensors) -> dict[str, Tensor]:
    return {name: x[name] for name in ("q", "k", "v")}


def _softplus_gate(x: Tensors, token: str) -> Tensor:
    return -_by_head(x["A_log"], x[token]).exp() * functional.softplus(x[token] + x["dt_bias"])


def _by_head(parameter: Tensor, like: Tensor) -> Tensor:
    """A parameter [H] against [B, T, H, ...]."""
    return parameter.view(-1, *(1,) * (like.ndim - 3))


def _mamba2(x: Tensors) -> dict[str, Tensor]:
    step = functional.softplus(x["dt"] + x["dt_bias"])
    v = (step.unsqueeze(-1) * x["v"]).to(x["v"].dtype)
    skip = (x["D"].unsqueeze(-1) * x["v"]).to(x["v"].dtype)
    return {"q": x["q"], "k": x["k"], "v": v, "g": -x["A_log"].exp() * step, SKIP: skip}


def _mamba_ssm(x: Tensors) -> dict[str, Tensor]:
    shared = {name: x[name] for name in ("dt", "dt_bias", "D")}
    return {"x": x["v"], "A": -x["A_log"].exp(), "B": x["k"], "C": x["q"], **shared}


def _hgrn2(x: Tensors) -> dict[str, Tensor]:
    return {"q": x["q"], "k": torch.sigmoid(-x["f"]), "v": x["v"], "g": functional.logsigmoid(x["f"])}


def _gate(divisor: int) -> Callable[[Tensors], Tensors]:
    return lambda x: _vectors(x) | {"g": functional.logsigmoid(x["f"]) / divisor}


FLA = {
    "linear_attention": Operator(
        "fla.ops.linear_attn",
        "chunk_linear_attn",
        lambda x: {"q": _phi(x["q"]), "k": _phi(x["k"]), "v": x["v"]},
        {"scale": 1.0, "normalize": False},
    ),
    # chunk_retention fixes the decays and calls this with them
    "retention": Operator("fla.ops.simple_gla", "chunk_simple_gla", lambda x: _vectors(x) | {"g_gamma": x["g"]}),
    "simple_gla": Operator("fla.ops.simple_gla", "chunk_simple_gla", _gate(16)),
    "gla": Operator("fla.ops.gla", "chunk_gla", _gate(16)),
    "hgrn2": Operator("fla.ops.gla", "chunk_gla", _hgrn2, {"scale": 1.0}),
    "mamba2": Operator("fla.ops.simple_gla", "chunk_simple_gla", _mamba2, {"scale": 1.0}),
    "deltanet": Operator(
        "fla.ops.delta_rule",
        "chunk_delta_rule",
        lambda x: _vectors(x) | {"beta": x["b"].sigmoid()},
        {"use_qk_l2norm_in_kernel": True},
    ),
    "gated_deltanet": Operator(
        "fla.ops.gated_delta_rule",
        "chunk_gated_delta_rule",
        lambda x: _vectors(x) | {"g": _softplus_gate(x, "a"), "beta": x["b"].sigmoid()},
        {"use_qk_l2norm_in_kernel": True},
        grouped=True,
    ),
    "kda": Operator(
        "fla.ops.kda",
        "chunk_kda",
        lambda x: _vectors(x) | {"g": _softplus_gate(x, "f"), "beta": x["b"].sigmoid()},
        {"use_qk_l2norm_in_kernel": True},
        grouped=True,
    ),
    "log_linear_attention": Operator(
        "fla.ops.log_linear_attn",
        "chunk_log_linear_attn",
        lambda x: _vectors(x) | {"g": torch.zeros_like(x["lam"][..., 0]), "level_scales": x["lam"]},
        {"scale": None},
        grouped=True,
    ),
    "log_linear_mamba2": Operator(
        "fla.ops.log_linear_attn",
        "chunk_log_linear_attn",
        lambda x: _mamba2(x) | {"level_scales": x["lam"]},
        {"scale": 1.0},
        grouped=True,
    ),
}

MAMBA_SSM = {
    "mamba2": Operator(
        "mamba_ssm.ops.triton.ssd_combined",
        "mamba_chunk_scan_combined",
        _mamba_ssm,
        {"chunk_size": 256, "dt_softplus": True},
        grouped=True,
    ),
}
