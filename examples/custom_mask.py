"""A mask of one's own: written as text, explained, checked against its definition, and differentiated.

The attention reads two memories of the same keys: one follows the delta rule and forgets by channel, its states in a
base-4 hierarchy; the other sees the last 32 tokens only. Nothing but the spec below is written for it.
"""

from __future__ import annotations

from typing import Any

import torch

import maskdsl
from maskdsl.runtime.sampling import Shape, random_inputs

SPEC = '''
attention near_and_far:
    """A base-4 hierarchy of channel-gated delta states, plus a window."""

    q, k : key           # [B, T, Hk, K]
    v    : value         # [B, T, H, V]
    f    : channel       # [B, T, H, K]
    b    : token         # [B, T, H]
    lam  : level >= 0    # [B, T, H, L]

    kn   = l2norm(k)
    far  = (delta(kn, sigmoid(b)) @ semiseparable(logsigmoid(f) / 16)) * fenwick(lam, base=4)
    near = window(32)
    return attend(l2norm(q), kn, v, far + near, scale=1/sqrt(K))
'''


def main() -> None:
    """Compile the spec, show what it means, and compare it with its definition in float64."""
    attention = maskdsl.compile(SPEC)
    print(attention.explain())

    shape = Shape(B=2, T=200, H=4, K=16, V=16, L=5, key_heads=(("q", 2), ("k", 2)))
    inputs: dict[str, Any] = random_inputs(attention.spec, shape, dtype=torch.float64)
    for tensor in inputs.values():
        tensor.requires_grad_()

    output = attention(**inputs)
    exact = attention.reference(**inputs, oracle="dense")
    print(f"output {list(output.shape)}, largest difference from the definition {_difference(output, exact):.1e}")

    direction = torch.randn_like(exact)
    gradients = torch.autograd.grad(output, list(inputs.values()), direction)
    exact_gradients = torch.autograd.grad(exact, list(inputs.values()), direction)
    for name, one, other in zip(inputs, gradients, exact_gradients, strict=True):
        print(f"gradient of {name:<4} {list(one.shape)!s:<18} largest difference {_difference(one, other):.1e}")


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).detach().abs().max())


if __name__ == "__main__":
    main()
