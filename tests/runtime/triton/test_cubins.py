"""What is known of the kernels without a GPU: they compile, fit their targets, and spill no more than a table allows.

Every library definition that has kernels, in bfloat16 at two shapes, forward and backward, for sm_90. For the other
targets, to save minutes, the definitions EVERYWHERE at one of the shapes, which together hold every operation that
there are kernels for. Two definitions in float32 and float16 for sm_90, and one in float32 for gfx942, which multiplies
float32 otherwise. Steps of one token likewise; they spill nothing.
"""

from __future__ import annotations

import dataclasses
import functools

import pytest
from compilation import library_spec

import maskdsl
from maskdsl import library
from maskdsl.chunk.ops import Operation
from maskdsl.lowering.hand import Hand
from maskdsl.mask.nodes import Kind
from maskdsl.runtime.arguments import needed_levels
from maskdsl.runtime.sampling import Shape
from maskdsl.runtime.triton.offline import Kernels
from maskdsl.runtime.triton.targets import TARGETS, Resources, excesses
from maskdsl.schedule.chunking import reflects
from maskdsl.schedule.configuration import Configuration, Mode
from maskdsl.schedule.plan import plan
from maskdsl.schedule.unsupported import Unsupported
from maskdsl.spec import Spec

LENGTH = 4096

BASE_3 = """attention base_3:
    q, k : key
    v : value
    lam : level
    return attend(q, k, v, fenwick(lam, base=3))
"""

LEVELS_IN_A_WINDOW = """attention levels_in_a_window:
    q, k : key
    v : value
    g : channel <= 0
    lam : level
    return attend(q, k, v, semiseparable(g) * fenwick(lam, admissibility="strong") * window(300))
"""

STEPS_BESIDE_LEVELS = """attention steps_beside_levels:
    q, k : key
    v : value
    g : token <= 0
    beta : token in [0, 1]
    lam : level
    return attend(q, k, v, semiseparable(g) * delta(k, beta) + semiseparable(g) * fenwick(lam))
"""

STRONG_LEVELS = """attention strong_levels:
    q, k : key
    v : value
    g : token <= 0
    lam : level
    return attend(q, k, v, semiseparable(g) * fenwick(lam, admissibility="strong"))
"""

EVERYWHERE = ("deltanet", "linear_attention", "log_linear_gla", "log_linear_kda", "windowed_decay")

SPILLS: dict[tuple[str, str], dict[str, int]] = {
    ("deltanet", "B"): {"backward_reached": 32, "forward_chunks_2": 32},
    ("gated_deltanet", "B"): {
        "backward_chunks_2": 64,
        "backward_chunks_3": 96,
        "backward_reached": 32,
        "backward_scan": 32,
        "forward_chunks_2": 64,
    },
    ("gla", "A"): {
        "backward_chunks_4": 192,
        "backward_chunks_5": 32,
        "backward_pairs": 96,
        "forward_chunks_2": 32,
        "forward_pairs": 32,
    },
    ("gla", "B"): {"backward_chunks_4": 64, "backward_pairs": 96, "forward_chunks_2": 64, "forward_pairs": 32},
    ("hgrn2", "A"): {
        "backward_chunks_4": 96,
        "backward_chunks_5": 32,
        "backward_pairs": 96,
        "forward_chunks_2": 32,
        "forward_pairs": 32,
    },
    ("hgrn2", "B"): {
        "backward_chunks_4": 64,
        "backward_chunks_5": 64,
        "backward_pairs": 96,
        "forward_chunks_2": 64,
        "forward_pairs": 32,
    },
    ("kda", "B"): {
        "backward_chunks": 32,
        "backward_chunks_3": 64,
        "backward_pairs": 64,
        "backward_pairs_2": 64,
        "forward_chunks_2": 32,
        "forward_pairs": 128,
    },
    ("linear_attention", "A"): {"backward_chunks_2": 64, "backward_chunks_3": 288},
    ("linear_attention", "B"): {"backward_chunks_2": 32, "forward_chunks": 32},
    ("log_linear_attention", "A"): {
        "backward_chunks": 32,
        "backward_chunks_2": 32,
        "backward_readers": 32,
        "forward_states": 32,
    },
    ("log_linear_attention", "B"): {"backward_chunks": 32, "forward_chunks": 32},
    ("log_linear_gated_deltanet", "B"): {
        "backward_chunks": 32,
        "backward_chunks_2": 32,
        "backward_chunks_3": 32,
        "backward_chunks_4": 128,
        "backward_chunks_5": 32,
        "backward_chunks_6": 64,
        "forward_chunks_2": 96,
        "forward_chunks_3": 32,
    },
    ("log_linear_gla", "A"): {
        "backward_chunks": 384,
        "backward_chunks_4": 160,
        "backward_chunks_5": 32,
        "backward_pairs": 96,
        "backward_readers": 320,
        "forward_chunks": 64,
        "forward_pairs": 32,
        "forward_states": 224,
    },
    ("log_linear_gla", "B"): {
        "backward_chunks": 288,
        "backward_chunks_4": 64,
        "backward_pairs": 96,
        "backward_readers": 320,
        "forward_chunks": 160,
        "forward_pairs": 32,
        "forward_states": 64,
    },
    ("log_linear_kda", "B"): {
        "backward_chunks_10": 32,
        "backward_chunks_2": 32,
        "backward_chunks_3": 32,
        "backward_chunks_6": 64,
        "backward_pairs": 64,
        "backward_pairs_2": 32,
        "forward_chunks_5": 32,
        "forward_chunks_6": 288,
        "forward_chunks_7": 32,
        "forward_pairs": 128,
    },
    ("log_linear_mamba2", "A"): {
        "backward_chunks": 32,
        "backward_chunks_2": 96,
        "backward_chunks_3": 32,
        "backward_readers": 32,
        "forward_chunks_2": 32,
    },
    ("log_linear_mamba2", "B"): {
        "backward_chunks_2": 32,
        "backward_chunks_3": 96,
        "backward_readers": 32,
        "forward_chunks_2": 128,
    },
    ("mamba2", "A"): {"backward_chunks_2": 128, "backward_chunks_3": 96},
    ("mamba2", "B"): {"backward_chunks_3": 96, "forward_chunks_3": 32},
    ("retention", "A"): {"backward_chunks_2": 192, "backward_chunks_3": 32},
    ("retention", "B"): {"backward_chunks_2": 64, "forward_chunks_4": 32},
    ("rwkv7", "B"): {
        "backward_chunks": 128,
        "backward_chunks_10": 192,
        "backward_chunks_3": 128,
        "backward_chunks_6": 32,
        "backward_chunks_9": 32,
        "backward_pairs": 64,
        "backward_pairs_2": 64,
        "backward_pairs_3": 96,
        "backward_pairs_4": 96,
        "backward_reached": 32,
        "backward_scan": 32,
        "forward_chunks_2": 224,
        "forward_crossed": 32,
        "forward_pairs": 128,
        "forward_pairs_2": 128,
        "forward_reached": 32,
        "forward_scan": 32,
    },
    ("simple_gla", "A"): {"backward_chunks_2": 128},
    ("simple_gla", "B"): {"backward_chunks_2": 64, "forward_chunks_3": 32},
    ("two_timescale", "A"): {"backward_chunks_2": 384, "backward_chunks_3": 192},
    ("two_timescale", "B"): {
        "backward_chunks_2": 224,
        "backward_chunks_3": 64,
        "forward_chunks_3": 96,
        "forward_chunks_4": 96,
    },
    ("windowed_decay", "A"): {"backward_chunks_2": 576, "forward_chunks_2": 64},
    ("windowed_decay", "B"): {"backward_chunks_2": 352, "forward_chunks_2": 160},
}
"""Registers a thread that kernels may spill on sm_90, rounded up to a multiple of 32.

In forward kernels it is mostly what a limit of 168 or 128 registers leaves over, set so that more programs run at a
time. In backward kernels accumulators exceed the 255 registers that there are; capping or splitting those of log-linear
Mamba-2, or those of rank-one paths, measured slower on an H200, as did eight warps for the latter.
"""


@functools.cache
def operations(name: str) -> frozenset[type[Operation]]:
    """The operations of the kernels of a definition; none where it has no kernels."""
    try:
        divided = plan(library_spec(name), Configuration((), 128, 128, 16, "bf16"))
    except Unsupported:
        return frozenset()
    programs = divided.first.program, divided.second.program
    return frozenset(type(each.op) for program in programs for each in program.instructions)


SUPPORTED = tuple(name for name in library.names() if operations(name))

CASES = [(name, shape) for name in SUPPORTED for shape in ("B" if reflects(library_spec(name)) else "AB")]
"""Rank-one paths take long to compile, so at one shape only."""


def shape_of(spec: Spec, shape: str) -> Shape:
    """A: 48 heads of one key head, K = 128 and V = 64. B: 16 heads with keys of their own, K = V = 128."""
    levels = max(1, needed_levels(spec, LENGTH))
    if shape == "A":
        keys = tuple((each.name, 1) for each in spec.inputs if each.kind is Kind.KEY)
        return Shape(2, LENGTH, 48, 128, 64, levels, keys)
    return Shape(2, LENGTH, 16, 128, 128, levels)


def compiled(name: str, shape: str, target: str, mode: Mode = "bf16") -> list[Resources]:
    """What the kernels of both directions use, each once; all compile."""
    spec = library_spec(name)
    kernels = Kernels(spec, shape_of(spec, shape), mode, target)
    used = [each for direction in ("forward", "backward") for each in kernels.resources(direction)]
    return list({each.kernel: each for each in used}.values())


def too_large(used: list[Resources], target: str) -> dict[str, int]:
    """The kernels that need more shared memory than a target has, with what they need."""
    return {each.kernel: each.shared for each in used if each.shared > TARGETS[target].shared}


def test_the_definitions_for_all_targets_hold_every_operation() -> None:
    assert frozenset().union(*map(operations, EVERYWHERE)) == frozenset().union(*map(operations, SUPPORTED))


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_kernels_fit_and_spill_little(name: str, shape: str) -> None:
    for target in TARGETS if name in EVERYWHERE and shape == "B" else ("sm_90",):
        used = compiled(name, shape, target)
        assert too_large(used, target) == {}
        if target == "sm_90":
            spilled = {each.kernel: each.spills for each in used}
            allowed = {kernel: SPILLS.get((name, shape), {}).get(kernel, 0) for kernel in spilled}
            assert {k: n for k, n in spilled.items() if n > allowed[k]} == {}


@pytest.mark.parametrize(
    ("name", "target"),
    [("log_linear_mamba2", "sm_90"), ("gated_deltanet", "sm_90"), ("log_linear_gated_deltanet", "gfx942")],
)
def test_packed_kernels_fit(name: str, target: str) -> None:
    spec = library_spec(name)
    shape = dataclasses.replace(shape_of(spec, "B"), B=1)
    kernels = Kernels(spec, shape, "bf16", target, packed=True)
    used = [each for direction in ("forward", "backward") for each in kernels.resources(direction)]
    assert {"places", "blank"} < {each.kernel for each in used}
    assert too_large(used, target) == {}


@pytest.mark.parametrize(
    ("text", "laid", "target"),
    [
        ("log_linear_mamba2", True, "sm_90"),
        ("log_linear_gated_deltanet", True, "sm_90"),
        (BASE_3, True, "sm_90"),
        ("log_linear_gla", True, "gfx942"),
        ("gated_deltanet", False, "sm_90"),
        ("mamba2", False, "gfx942"),
        ("windowed_decay", True, "sm_90"),
        (LEVELS_IN_A_WINDOW, True, "gfx942"),
        (STEPS_BESIDE_LEVELS, True, "sm_90"),
        (STRONG_LEVELS, True, "sm_90"),
    ],
    ids=lambda value: value.split(":")[0] if isinstance(value, str) else None,
)
def test_kernels_that_hand_states_on_fit(text: str, laid: bool, target: str) -> None:
    spec = maskdsl.compile(text).spec
    shape = dataclasses.replace(shape_of(spec, "B"), B=1)
    kernels = Kernels(spec, shape, "bf16", target, hand=Hand(True, True, laid))
    used = [each for direction in ("forward", "backward") for each in kernels.resources(direction)]
    assert ("forward_left" in {each.kernel for each in used}) == laid
    assert too_large(used, target) == {}


@pytest.mark.parametrize("shape", ["A", "B"])
@pytest.mark.parametrize("name", library.names())
def test_steps_fit(name: str, shape: str) -> None:
    spec = library_spec(name)
    for target in TARGETS if name in EVERYWHERE and shape == "B" else ("sm_90",):
        used = Kernels(spec, shape_of(spec, shape), "bf16", target).resources("step")
        assert [sentence for each in used for sentence in excesses(each, TARGETS[target])] == []


@pytest.mark.parametrize("mode", ["fp32", "fp16"])
@pytest.mark.parametrize("name", ["log_linear_mamba2", "gla"])
def test_kernels_of_other_precisions_fit(name: str, mode: Mode) -> None:
    assert too_large(compiled(name, "B", "sm_90", mode), "sm_90") == {}


def test_float32_has_a_precision_of_its_own_on_amd() -> None:
    assert too_large(compiled("mamba2", "A", "gfx942", "fp32"), "gfx942") == {}
