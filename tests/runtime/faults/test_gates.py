"""Log decays at and between their extremes: 0, tiny, strong enough to overflow, and -inf."""

from __future__ import annotations

import math

import pytest
import torch
from agreement import assert_as_good_as_the_recurrence, assert_right, compiled, exact, inputs_of, outcome
from torch import Tensor
from variants import VARIANTS, chunk_of

import maskdsl
from maskdsl import CallError, SpecError

LEVELS = (0.0, -1e-12, -5.0, -20.0, -88.0, -1e3, -math.inf)
GATED = [name for name in VARIANTS if name != "sum"]


def with_gates(inputs: dict[str, Tensor], gate: float | None) -> dict[str, Tensor]:
    """All gates at one value or, where it is None, each at one of them all."""
    generator = torch.Generator().manual_seed(3)
    g = inputs["g"]
    mixed = torch.tensor(LEVELS, dtype=g.dtype)[torch.randint(len(LEVELS), g.shape, generator=generator)]
    return inputs | {"g": mixed if gate is None else torch.full_like(g, gate)}


@pytest.mark.parametrize("gate", [*LEVELS, None])
@pytest.mark.parametrize("name", GATED)
def test_gates_of_any_strength(name: str, gate: float | None) -> None:
    """exp of differences of cumulative decays overflows, 0 * inf, weak gates hide errors (fla#77, fla#891, fla#389)."""
    attention = compiled(*VARIANTS[name], chunk=chunk_of(name))
    inputs = with_gates(inputs_of(attention, 29), gate)
    assert_right(attention, inputs)
    assert_as_good_as_the_recurrence(attention, {name: x.float() for name, x in inputs.items()})


@pytest.mark.parametrize("name", GATED)
def test_no_decay_keeps_everything(name: str) -> None:
    """g = 0 takes no path of its own: it is the mask without its decay (fla#862, fla#104)."""
    attention = compiled(*VARIANTS[name], chunk=chunk_of(name))
    lines = [line.replace("semiseparable(g)", "causal") for line in VARIANTS[name] if not line.startswith("g :")]
    without = compiled(*lines, chunk=chunk_of(name))
    inputs = with_gates(inputs_of(attention, 29), 0.0)
    rest = {name: x for name, x in inputs.items() if name != "g"}
    torch.testing.assert_close(attention(**inputs), without(**rest), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("gate", [-1e-3, -0.3, -3.0])
@pytest.mark.parametrize("name", GATED)
def test_the_gate_gradient_alone(name: str, gate: float) -> None:
    """dg is a difference of large sums where written carelessly: held against itself (FlashQLA#28, fla#459)."""
    attention = compiled(*VARIANTS[name], chunk=chunk_of(name))
    inputs = {name: x.float() for name, x in with_gates(inputs_of(attention, 61), gate).items()}
    truth, found = exact(attention, inputs)["dg"], outcome(attention, inputs)["dg"]
    assert (found - truth).norm() <= 1e-5 * truth.norm()
    if truth.ndim > 2:
        # the last tokens' gradients are small; they must not drown in the first ones'
        late = truth[:, -8:]
        assert (found[:, -8:] - late).norm() <= 1e-4 * late.norm()


@pytest.mark.parametrize("name", ["mamba2", "gated_deltanet", "kda", "log_linear_mamba2", "log_linear_gated_deltanet"])
def test_the_gradients_of_gate_parameters_alone(name: str) -> None:
    """A_log and dt_bias gather over all tokens: their gradients break first (FlashQLA#28, fla#967)."""
    attention = maskdsl.compile(name)
    inputs = inputs_of(attention, 150, B=2, key_heads=(("q", 1),), dtype=torch.float32)
    errors = outcome(attention, inputs).errors(exact(attention, inputs))
    assert errors["dA_log"] <= 1e-5
    assert errors["ddt_bias"] <= 1e-5


def test_a_gate_that_may_be_positive_is_no_decay() -> None:
    """exp of a positive sum grows without bound: refused when compiled, and at a call that breaks its promise."""
    with pytest.raises(SpecError, match="<= 0"):
        compiled("q, k : key", "v : value", "g : token", "return attend(q, k, v, semiseparable(g))")
    attention = compiled(*VARIANTS["number"])
    inputs = inputs_of(attention, 5)
    inputs["g"][0, 3, 1] = 1e-9
    with pytest.raises(CallError, match=r"'g' promises values <= 0, but 1 of 10 lies outside.*\[0, 3, 1\]") as caught:
        attention(**inputs, check_inputs=True)
    assert caught.value.input == "g"
