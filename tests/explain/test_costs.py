"""The cost formulas, against counts worked by hand for K = 8, V = 4, one head and float16 inputs."""

from __future__ import annotations

import pytest

from maskdsl.explain import costs
from maskdsl.explain.costs import Cost, Sizes
from maskdsl.language.syntax import Attention, Range
from maskdsl.mask.nodes import Kind, Scalar
from maskdsl.mask.normal import Decay, Hierarchy, NormalForm, RankOne, Term
from maskdsl.scalar.build import symbol
from maskdsl.spec import Input, Spec

SMALL = Sizes(heads=1, key=8, value=4)
NUMBER = Decay(Scalar(symbol("g"), Kind.TOKEN))
DIAGONAL = Decay(Scalar(symbol("f"), Kind.CHANNEL))
KEY = Scalar(symbol("k"), Kind.KEY)
DELTA = RankOne(KEY, KEY, Scalar(-symbol("b"), Kind.TOKEN))
LEVELS = Hierarchy(Scalar(symbol("lam"), Kind.LEVEL), 2, "weak")
STATE = 8 * 4


def form(*steps: Decay | RankOne, hierarchy: Hierarchy | None = None, window: int | None = None) -> NormalForm:
    return NormalForm((Term(steps, hierarchy, window),))


def spec(**kinds: Kind) -> Spec:
    """A spec of which only the inputs matter."""
    inputs = tuple(Input(name, kind, Range()) for name, kind in kinds.items())
    return Spec("probe", "", inputs, (), Scalar(symbol("v"), Kind.VALUE), Attention("probe", "", ()))


QKV = spec(q=Kind.KEY, k=Kind.KEY, v=Kind.VALUE)


@pytest.mark.parametrize(
    ("mask", "length", "numbers"),
    [
        (form(), 1000, STATE),
        (form(NUMBER), 1000, STATE),
        (form(DELTA, DIAGONAL), 1000, STATE),
        (form(NUMBER, hierarchy=LEVELS), 1024, 11 * STATE),
        (form(NUMBER, hierarchy=LEVELS), 1025, 12 * STATE),
        (form(hierarchy=Hierarchy(LEVELS.lam, 10, "weak")), 1000, 4 * STATE),
        (form(window=16), 1000, 16 * (8 + 4)),
        (form(window=16), 5, 5 * (8 + 4)),
        (NormalForm(form(NUMBER).terms + form(window=16).terms), 1000, STATE + 16 * 12),
    ],
)
def test_state(mask: NormalForm, length: int, numbers: int) -> None:
    assert costs.state_numbers(mask, length, SMALL) == numbers


@pytest.mark.parametrize(
    ("mask", "flops"),
    [
        # write 2 K V and read 2 K V
        (form(), 2 * STATE + 2 * STATE),
        # and K V for each decay
        (form(NUMBER), 5 * STATE),
        (form(DIAGONAL), 5 * STATE),
        # and 4 K V for each rank-one step
        (form(NUMBER, DELTA), 9 * STATE),
        (form(NUMBER, DELTA, DELTA), 13 * STATE),
        # five of ten states hold something at T = 1024; one write, in which what has waited is multiplied and added
        (form(NUMBER, hierarchy=LEVELS), 5 * 2 * STATE + 2 * STATE + 2 * STATE),
        (form(hierarchy=Hierarchy(LEVELS.lam, 4, "weak")), 3.75 * 2 * STATE + 2 * STATE + 2 * STATE),
        (form(NUMBER, hierarchy=Hierarchy(LEVELS.lam, 2, "strong")), 10 * 2 * STATE + 3 * 2 * STATE + 2 * STATE),
        (form(NUMBER, DELTA, hierarchy=LEVELS), 5 * (2 + 1 + 4) * STATE + 2 * STATE),
        # scores and values of 16 kept tokens; the decay of their keys
        (form(window=16), 2 * 16 * 12),
        (form(NUMBER, window=16), 2 * 16 * 12 + 16 * 8),
        (form(DELTA, window=16), 2 * 16 * 12 + 16 * 8 * 4),
    ],
)
def test_decoding_flops_at_1024(mask: NormalForm, flops: int) -> None:
    assert costs.decoding(QKV, (mask,), 1024, SMALL).flops == flops


@pytest.mark.parametrize(
    ("mask", "numbers"),
    [
        (form(NUMBER), 2 * STATE),
        (form(NUMBER, hierarchy=LEVELS), (5 + 1) * STATE),
        (form(hierarchy=Hierarchy(LEVELS.lam, 2, "strong")), (10 + 3) * STATE),
        (form(NUMBER, DELTA, hierarchy=LEVELS), (5 + 5) * STATE),
        (form(NUMBER, window=16), 16 * 12 + 12),
        (form(DELTA, window=16), 16 * 12 + 16 * 8 + 4),
    ],
)
def test_decoding_moves_what_a_step_touches_in_float32(mask: NormalForm, numbers: float) -> None:
    # inputs q, k, v: 20 numbers, output 4, two bytes each
    assert costs.decoding(QKV, (mask,), 1024, SMALL).bytes == 4 * numbers + 2 * (20 + 4)


INSIDE = 2 * 64 * 12
# programs with rank-one steps take chunks of 32 tokens
INSIDE_32 = 2 * 32 * 12
SOLVE_32 = 4 * 32 * 8 + 32 * 32 / 3 + 2 * 32 * 4 + 4 * 32 * 12


@pytest.mark.parametrize(
    ("mask", "length", "forward"),
    [
        # a single chunk of 32 tokens: nothing but scores and values
        (form(NUMBER), 32, 2 * 32 * 12),
        # write, read, and join states
        (form(NUMBER), 1024, INSIDE + 2 * STATE * (1 + 1 + 1 / 64)),
        # levels(1024) - levels(64) = 11 - 7 = 4 levels above the chunk, half of them occupied
        (form(NUMBER, hierarchy=LEVELS), 1024, INSIDE + 2 * STATE * (1 + 2 + 1 / 64)),
        # base 4: 6 - 4 = 2 levels above, three quarters of them occupied
        (form(hierarchy=Hierarchy(LEVELS.lam, 4, "weak")), 1024, INSIDE + 2 * STATE * (1 + 1.5 + 1 / 64)),
        (form(hierarchy=Hierarchy(LEVELS.lam, 2, "strong")), 1024, INSIDE + 2 * STATE * (1 + 4 + 1 / 64)),
        (form(NUMBER, DELTA), 1024, INSIDE_32 + SOLVE_32 + 2 * STATE * (2 + 1 / 32) + 4 * STATE),
        (
            form(NUMBER, DELTA, hierarchy=LEVELS),
            1024,
            # 11 - 6 = 5 levels above the chunk
            INSIDE_32
            + SOLVE_32
            + 2 * STATE * (1 + 2.5 + 1 / 32)
            + 4 * STATE
            + 2 * 64
            + 2 * 64 * 12 / 32
            + 2 * 64 * 2.5,
        ),
        # base 3: chunks of 81, levels(1024) - levels(81) = 8 - 5 = 3 levels above, two thirds of them occupied
        (
            form(hierarchy=Hierarchy(LEVELS.lam, 3, "weak")),
            1024,
            2 * 81 * 12 + 2 * STATE * (1 + 2 + 1 / 81),
        ),
        (form(window=16), 1024, 2 * (16 + 64) * 12),
        (NormalForm(form(NUMBER).terms * 2), 1024, 2 * (INSIDE + 2 * STATE * (2 + 1 / 64))),
    ],
)
def test_training_flops_are_three_forward_passes(mask: NormalForm, length: int, forward: float) -> None:
    assert costs.training(QKV, (mask,), length, SMALL).flops == pytest.approx(3 * length * forward)


def test_training_bytes() -> None:
    # per token: inputs and their gradients 3 * 20, output and its gradient 2 * 4, two bytes each;
    # one state of 32 numbers a chunk of 64, written and read three times in float32
    per_token = 2 * (3 * 20 + 2 * 4) + 3 * 4 * STATE * 2 / 64
    assert costs.training(QKV, (form(NUMBER),), 1024, SMALL).bytes == pytest.approx(1024 * per_token)


def test_parameters_cost_no_bytes_a_token_and_level_weights_as_many_as_are_needed() -> None:
    given = spec(k=Kind.KEY, v=Kind.VALUE, lam=Kind.LEVEL, A_log=Kind.HEAD, bias=Kind.HEAD_CHANNEL, dt=Kind.TOKEN)
    assert costs.input_numbers(given, (form(hierarchy=LEVELS),), 1024, SMALL) == 8 + 4 + 11 + 1


def test_softmax() -> None:
    # two tokens: one score and one value for the first, two for the second
    assert costs.softmax_training(2, SMALL).flops == 3.5 * (1 + 2) * 2 * 12
    assert costs.softmax_decoding(1000, SMALL) == Cost(2 * 1000 * 12, 2 * (1000 * 12 + 2 * 12))


def test_costs_grow_with_the_heads() -> None:
    four = Sizes(heads=4, key=8, value=4)
    one = costs.training(QKV, (form(NUMBER),), 512, SMALL)
    assert costs.training(QKV, (form(NUMBER),), 512, four) == Cost(4 * one.flops, 4 * one.bytes)
