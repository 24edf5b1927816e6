"""Every definition of the library: it is well formed, documented, and what it says it is."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
import torch

from maskdsl import library
from maskdsl.diagnostics import Source
from maskdsl.language.load import specs
from maskdsl.runtime.arguments import needed_levels
from maskdsl.runtime.oracle import recurrent
from maskdsl.runtime.sampling import Shape, random_inputs
from maskdsl.spec import Spec

Step = Callable[[torch.Tensor, dict[str, torch.Tensor]], torch.Tensor]
PUBLISHED = {
    "linear_attention",
    "retention",
    "simple_gla",
    "mamba2",
    "gla",
    "hgrn2",
    "deltanet",
    "gated_deltanet",
    "kda",
    "rwkv7",
    "log_linear_mamba2",
    "log_linear_gated_deltanet",
}


def load(name: str) -> Spec:
    (spec,) = specs(Source(f"{name}.mask", library.read(name)))
    return spec


def test_the_library_is_not_missing_anything() -> None:
    assert set(library.names()) >= PUBLISHED
    assert list(library.names()) == sorted(library.names())


def test_an_unknown_name_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="no_such_attention"):
        library.read("no_such_attention")


@pytest.mark.parametrize("name", library.names())
def test_a_definition_is_named_after_its_file_and_says_where_it_is_from(name: str) -> None:
    spec = load(name)
    assert spec.name == name
    assert re.search(r"arXiv \d{4}\.\d{5}", spec.doc)
    assert "o[t] =" in spec.doc


def inputs_of(name: str, length: int = 12) -> tuple[Spec, dict[str, torch.Tensor]]:
    spec = load(name)
    shape = Shape(B=1, T=length, H=2, K=4, V=3, L=max(1, needed_levels(spec, length)))
    return spec, random_inputs(spec, shape, dtype=torch.float64)


def softplus(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.softplus(x)


def l2norm(x: torch.Tensor) -> torch.Tensor:
    return x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt()


def outer(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a[..., :, None] * b[..., None, :]


def walk(state_step: Step, read: Step, length: int, given: dict[str, torch.Tensor]) -> torch.Tensor:
    """o[t] from the recurrence of a paper: `state_step(S, x)` and `read(S, x)` with x the inputs at one position."""
    state = torch.zeros(1, 2, 4, 3, dtype=torch.float64)
    outputs = []
    for t in range(length):
        now = {name: x[:, t] if x.dim() > 2 else x for name, x in given.items()}
        state = state_step(state, now)
        outputs.append(read(state, now))
    return torch.stack(outputs, 1)


def test_mamba2_is_the_papers_recurrence() -> None:
    spec, given = inputs_of("mamba2")

    def state_step(state: torch.Tensor, x: dict[str, torch.Tensor]) -> torch.Tensor:
        dt = softplus(x["dt"] + x["dt_bias"])
        return torch.exp(-torch.exp(x["A_log"]) * dt)[..., None, None] * state + outer(dt[..., None] * x["k"], x["v"])

    def read(state: torch.Tensor, x: dict[str, torch.Tensor]) -> torch.Tensor:
        return (state * x["q"][..., None]).sum(-2) + x["D"][:, None] * x["v"]

    torch.testing.assert_close(recurrent(spec, given), walk(state_step, read, 12, given))


def test_kda_decays_before_it_corrects() -> None:
    spec, given = inputs_of("kda")

    def state_step(state: torch.Tensor, x: dict[str, torch.Tensor]) -> torch.Tensor:
        kept = torch.exp(-torch.exp(x["A_log"])[:, None] * softplus(x["f"] + x["dt_bias"]))[..., None] * state
        k, beta = l2norm(x["k"]), torch.sigmoid(x["b"])[..., None]
        return kept + outer(k, beta * (x["v"] - (kept * k[..., None]).sum(-2)))

    def read(state: torch.Tensor, x: dict[str, torch.Tensor]) -> torch.Tensor:
        return (state * l2norm(x["q"])[..., None]).sum(-2) / 2

    torch.testing.assert_close(recurrent(spec, given), walk(state_step, read, 12, given))


def test_rwkv7_is_a_diagonal_plus_one_rank_one_matrix() -> None:
    spec, given = inputs_of("rwkv7")

    def state_step(state: torch.Tensor, x: dict[str, torch.Tensor]) -> torch.Tensor:
        eta, w = torch.sigmoid(x["a"]), torch.exp(-math.exp(-0.5) * torch.sigmoid(x["w"]))
        kappa = l2norm(x["k"] * x["xi"])
        removed = outer(eta * kappa, (state * kappa[..., None]).sum(-2))
        return w[..., None] * state - removed + outer(x["k"] * (1 + (eta - 1) * x["alpha"]), x["v"])

    def read(state: torch.Tensor, x: dict[str, torch.Tensor]) -> torch.Tensor:
        return (state * x["r"][..., None]).sum(-2)

    torch.testing.assert_close(recurrent(spec, given), walk(state_step, read, 12, given))


@pytest.mark.parametrize(
    ("hierarchical", "plain"),
    [(name, name.removeprefix("log_linear_")) for name in library.names() if name.startswith("log_linear_")],
)
def test_a_hierarchy_of_equal_weights_is_none(hierarchical: str, plain: str) -> None:
    spec, given = inputs_of(hierarchical)
    given["lam"] = torch.ones_like(given["lam"])
    if plain == "attention":  # log_linear_attention has no feature map; retention without decay has none either
        expected = recurrent(load("retention"), {**given, "g": torch.zeros(2, dtype=torch.float64)})
    else:
        expected = recurrent(load(plain), {name: x for name, x in given.items() if name != "lam"})
    torch.testing.assert_close(recurrent(spec, given), expected)
