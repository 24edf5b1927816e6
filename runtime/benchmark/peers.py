"""What a spec is timed against: softmax attention of PyTorch, and published operators for the same recurrence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from maskdsl.runtime.benchmark.measure import System, sentence
from maskdsl.runtime.benchmark.operators import FLA, MAMBA_SSM, Operator
from maskdsl.runtime.benchmark.problem import Problem, Tensors


class Unfit(Exception):
    """A peer that cannot stand beside a problem; the message says why."""


def softmax(name: str, backend: SDPBackend, problem: Problem) -> System:
    """Causal softmax attention with as many heads as the problem has, keys and values of its value size."""
    _on_gpu(name, problem)
    if problem.dtype != torch.bfloat16:
        raise Unfit(f"'{name}' is timed in bf16 only.")

    def run(operands: Tensors) -> Tensor:
        with sdpa_kernel(backend):
            q, k, v = (operands[each].transpose(1, 2) for each in ("q", "k", "v"))
            return scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)

    def prepare(_: Tensors) -> Tensors:
        shape, device = problem.output, problem.device
        return {each: torch.randn(shape, device=device).to(problem.dtype) for each in ("q", "k", "v")}

    return System(name, run, prepare, same=False, survived=(Exception,))


def published(name: str, operators: Mapping[str, Operator], install: str, problem: Problem) -> System:
    """The operator that a package has for the recurrence of the problem."""
    operator = operators.get(problem.spec.name)
    if operator is None:
        raise Unfit(f"'{name}' has no operator for '{problem.spec.name}'.")
    _on_gpu(name, problem)
    try:
        run = operator.load()
    except Exception as error:  # packages of this kind look at the GPU and its compiler while they load
        raise Unfit(f"'{name}' cannot be imported ({sentence(error)}); install it with: {install}") from error
    return System(name, run, operator.prepare, survived=(Exception,))


def _on_gpu(name: str, problem: Problem) -> None:
    if problem.device == "cpu":
        raise Unfit(f"'{name}' is timed on a GPU only.")


PEERS: dict[str, Callable[[Problem], System]] = {
    "flash": partial(softmax, "flash", SDPBackend.FLASH_ATTENTION),
    "cudnn": partial(softmax, "cudnn", SDPBackend.CUDNN_ATTENTION),
    "fla": partial(published, "fla", FLA, 'pip install "maskdsl[bench]"'),
    "mamba_ssm": partial(published, "mamba_ssm", MAMBA_SSM, "pip install --no-build-isolation mamba-ssm"),
}
"""Each makes its system for a problem, or raises `Unfit`; packages are imported only then."""
