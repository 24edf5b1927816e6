"""Hand-over by blocks: the interpreter finds what relays and slides make, of all kinds of steps, from any position."""

from __future__ import annotations

import pytest
import torch
from compilation import assert_near, inputs_of, sizes_of, small_shape, spec_of
from variants import VARIANTS, WINDOWS, block, chunk_of

from maskdsl.chunk import axes as ax
from maskdsl.chunk import ops
from maskdsl.chunk.interpret import interpret
from maskdsl.chunk.sequences import Sequences
from maskdsl.differentiation.differentiate import differentiate
from maskdsl.lowering.hand import Hand
from maskdsl.lowering.lower import lower
from maskdsl.schedule.blocks import in_blocks
from maskdsl.schedule.unsupported import Unsupported

MASKS = VARIANTS | WINDOWS
NAMES = [
    *("number", "diagonal", "number, window", "diagonal, window", "sum", *WINDOWS),
    *(name for name in VARIANTS if "weak hierarchy" in name),
]
SEQUENCES = Sequences(((0, 21, 21, 31),), ((13, 5, 88),))


@pytest.mark.parametrize("hand", [Hand(a, b, laid=True) for a in (False, True) for b in (False, True)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_the_same_as_relays(name: str, hand: Hand) -> None:
    spec = spec_of(block(*MASKS[name]))
    relayed = lower(spec, {}, chunk_of(name), hand)
    blocked = in_blocks(relayed)
    assert not any(isinstance(i.op, ops.Relay | ops.Slide) for i in blocked.instructions)
    shape = small_shape(spec, length=31, batch=1)
    sizes = sizes_of(shape) | {"S": 3, "L": 9}
    generator = torch.Generator().manual_seed(0)
    known = {}
    for load in relayed.loads:
        extents = [ax.extent(x, sizes) for x in load.axes]
        known[load.name] = torch.randn(extents, generator=generator, dtype=torch.float64)
    known |= {name: x for name, x in inputs_of(spec, shape).items() if name != "lam"}
    joint = differentiate(relayed)
    for load in joint.loads:
        extents = [ax.extent(x, sizes) for x in load.axes]
        known.setdefault(load.name, torch.randn(extents, generator=generator, dtype=torch.float64))
    expected, made = (interpret(each, known, sizes, SEQUENCES) for each in (joint, differentiate(blocked)))
    assert expected.keys() == made.keys()
    for name, x in expected.items():
        assert_near(made[name], x, 1e-10)


@pytest.mark.parametrize(
    ("name", "what"), [("number, strong hierarchy", "strong"), ("operator, window", "window"), ("operator", "Rank-one")]
)
def test_what_kernels_have_no_blocks_of(name: str, what: str) -> None:
    spec = spec_of(block(*VARIANTS[name]))
    with pytest.raises(Unsupported, match=what):
        in_blocks(lower(spec, {}, chunk_of(name), Hand(True, True, laid=True)))
