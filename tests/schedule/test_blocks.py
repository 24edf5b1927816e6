"""Hand-over by blocks: the interpreter finds what relays and slides make, of all kinds of steps, from any position."""

from __future__ import annotations

import pytest
import torch
from compilation import assert_near, inputs_of, sizes_of, small_shape, spec_of
from torch import Tensor
from variants import BESIDE, QKV, STEP, STRONG, VARIANTS, WEIGHTS, WINDOWS, block, chunk_of

from maskdsl.chunk import axes as ax
from maskdsl.chunk import ops
from maskdsl.chunk.interpret import interpret
from maskdsl.chunk.program import Builder, Program
from maskdsl.chunk.sequences import Sequences
from maskdsl.differentiation.differentiate import differentiate
from maskdsl.lowering.hand import Hand
from maskdsl.lowering.lower import lower
from maskdsl.schedule.blocks import in_blocks
from maskdsl.schedule.unsupported import Unsupported

MASKS = VARIANTS | WINDOWS | STRONG | BESIDE
NAMES = [
    *("number", "diagonal", "number, window", "diagonal, window", "sum", *WINDOWS, *STRONG, *BESIDE),
    *(name for name in VARIANTS if "weak hierarchy" in name or "strong hierarchy" in name),
]
SEQUENCES = [Sequences(((0, 21, 21, 31),), (positions,)) for positions in ((13, 5, 88), (60, 64, 29))]


def held(sequences: Sequences, levels: int) -> Tensor:
    """1 for the levels of strong admissibility at which sequences have seen positions, [1, 1, S, M, 1, 1], else 0."""
    (positions,) = sequences.positions
    found = [[float(p.bit_length() >= j) for j in range(1, levels + 1)] for p in positions]
    return torch.tensor(found, dtype=torch.float64)[None, None, :, :, None, None]


@pytest.mark.parametrize("hand", [Hand(a, b, laid=True) for a in (False, True) for b in (False, True)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_the_same_as_relays(name: str, hand: Hand) -> None:
    spec = spec_of(block(*MASKS[name]))
    relayed = lower(spec, {}, chunk_of(name), hand)
    blocked = in_blocks(relayed)
    assert not any(isinstance(i.op, ops.Relay | ops.Slide) for i in blocked.instructions)
    shape = small_shape(spec, length=31, batch=1)
    known = {name: x for name, x in inputs_of(spec, shape).items() if name != "lam"}
    assert_same(relayed, blocked, known, sizes_of(shape), strong="strong" in MASKS[name][-1])


def assert_same(
    relayed: Program, blocked: Program, known: dict[str, Tensor], shape: dict[str, int], *, strong: bool = False
) -> None:
    """Outputs and gradients of two programs, of what is known and of random numbers.

    Where levels are `strong`, those that no position is at hold nothing.
    """
    sizes = shape | {"S": 3, "L": 9}
    generator = torch.Generator().manual_seed(0)
    joint = differentiate(relayed)
    for load in joint.loads:
        extents = [ax.extent(x, sizes) for x in load.axes]
        known.setdefault(load.name, torch.randn(extents, generator=generator, dtype=torch.float64))
    back = differentiate(blocked)
    by_level = [load.name for load in relayed.loads if "M" in load.axes and strong]
    for sequences in SEQUENCES:
        there = {x: held(sequences, sizes["L"] - 1) for x in by_level}
        given = {x: y * there.get(x, 1) for x, y in known.items()}
        expected, made = (interpret(each, given, sizes, sequences) for each in (joint, back))
        assert expected.keys() == made.keys()
        for x, y in expected.items():
            some = there.get(x.removeprefix("d_"), 1)
            assert_near(some * made[x], some * y, 1e-10)


OPERATORS = 'attend(q, k, v, delta(l2norm(k), beta) * fenwick(lam, admissibility="strong"))'
WITHOUT = VARIANTS | {"operator, strong hierarchy": (*QKV, STEP, WEIGHTS, f"return {OPERATORS}")}


@pytest.mark.parametrize("decays", [("1", "1"), ("K", "1")])
@pytest.mark.parametrize("writes", [False, True])
def test_a_scan_that_solves_systems_makes_what_a_relay_does(decays: tuple[str, str], writes: bool) -> None:
    """A relay of the blocks that the solution for every state gives: W = X v + X b S."""
    build = Builder("test")
    k, a, b, r = (laid(build, name, "K") for name in ("k", "a", "b", "r"))
    v = laid(build, "v", "V")
    operator = build(ops.Load("operator", ("B", "H", "N8", *decays)), name="operator")
    initial = build(ops.Load("initial", ("B", "H", "S", "K", "V")), name="initial")
    system = build(ops.Tril(-1), build(ops.Dot(transpose_y=True), b, a, name="pairs"), name="system")
    inverse = build(ops.Inverse(), system, name="inverse")

    more = [build(ops.Dot(transpose_x=True), k, v, name="writes")] if writes else []
    scan = ops.SolvedScan(initial=True, final=True)
    states, answers, last = build.apply(scan, operator, a, b, v, inverse, *more, initial, name="scan")
    read = build(ops.Unlay(8), build(ops.Dot(), r, states, name="read"), name="o")
    answered = build(ops.Unlay(8), answers, name="w")
    scanned = build.program([("o", read), ("w", answered), ("last", last)])

    keys = build(ops.Dot(transpose_x=True), inverse, a, name="keys")
    if writes:
        keys = build(ops.Map(ops.argument(0) + ops.argument(1)), keys, k, name="all_keys")
    steps = operator, keys, v, initial, a, build(ops.Dot(), inverse, b, name="carried")
    read, last = build.apply(ops.Relay(2, "weak"), r, *steps, name="relayed")
    of_b, _ = build.apply(ops.Relay(2, "weak"), b, *steps, name="relayed_b")
    both = build(ops.Map(ops.argument(0) + ops.argument(1)), v, of_b, name="both")
    answers = build(ops.Dot(), inverse, both, name="answers")
    outputs = [build(ops.Unlay(8), x, name="out") for x in (read, answers)]
    relayed = build.program([*zip(("o", "w"), outputs, strict=True), ("last", last)])
    assert_same(relayed, scanned, {}, {"B": 1, "T": 31, "H": 2, "K": 4, "V": 3})


def laid(build: Builder, name: str, feature: str) -> str:
    """A value of every token in its slot."""
    return build(ops.Lay(8), build(ops.Load(name, ("B", "T", "H", feature)), name=name), name=f"{name}_slots")


@pytest.mark.parametrize(
    ("name", "what"),
    [("operator, window", "window"), ("operator, strong hierarchy", "strong hierarchy")],
)
def test_what_kernels_have_no_blocks_of(name: str, what: str) -> None:
    spec = spec_of(block(*WITHOUT[name]))
    with pytest.raises(Unsupported, match=what):
        in_blocks(lower(spec, {}, chunk_of(name), Hand(True, True, laid=True)))
