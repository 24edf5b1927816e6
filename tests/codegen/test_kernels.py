"""Generated kernels in Triton's interpreter: output and every gradient against the float64 oracles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from compilation import library_spec
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from kernel_calls import (
    case_of,
    failures,
    failures_in_runs,
    failures_of_a_full_gpu,
    in_parallel_segments,
    supported,
)
from strategies import spec_texts
from tile_kernels import triton_process

import maskdsl
from maskdsl import CallError, library
from maskdsl.language.printer import to_text
from maskdsl.runtime.sampling import regimes, shapes
from maskdsl.runtime.verification import Case

Run = Callable[..., Any]
Check = Callable[..., None]

QKV = ("q, k : key", "v : value")
NUMBER, DIAGONAL, WEIGHTS = "g : token <= 0", "g : channel <= 0", "lam : level"
STRONG = 'fenwick(lam, admissibility="strong")'
DECAY = "semiseparable(g)"


def block(*lines: str) -> str:
    """The block of these lines, declarations first."""
    ordered = sorted((*QKV, *lines), key=lambda line: " : " not in line)
    return "attention test:\n" + "".join(f"    {line}\n" for line in ordered)


def masked(mask: str, *declared: str) -> str:
    return block(*declared, f"return attend(q, k, v, {mask})")


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Run a function of `kernel_calls` in a process in which Triton is the interpreter."""
    with triton_process(interpret=True, overflow=False) as pool:
        # an error that cannot be sent between processes would otherwise be waited for
        yield lambda function, *args: pool.submit(function, *args).result(timeout=240)


@pytest.fixture
def check(run: Run) -> Check:
    """Ask for a call without failures."""

    def asked(text: str, case: Case, chunk: int | None = None) -> None:
        found = run(failures, text, case, chunk)
        assert not found, (text, case, found)

    return asked


KERNELS = [name for name in library.names() if supported(to_text(library_spec(name).syntax))]


def test_kernels_serve_every_definition() -> None:
    assert set(library.names()) == set(KERNELS)


@pytest.mark.parametrize("name", KERNELS)
def test_definitions(check: Check, name: str) -> None:
    text = to_text(library_spec(name).syntax)
    check(text, case_of(text, 131, K=20, V=18, key_heads=1))


@pytest.mark.parametrize("T", [1, 63, 64, 65, 129])
def test_lengths(check: Check, T: int) -> None:
    text = masked(f"{DECAY} * fenwick(lam) + window(70)", NUMBER, WEIGHTS)
    check(text, case_of(text, T, B=2))


@pytest.mark.parametrize("regime", ["zero", "tiny", "strong5", "strong88", "mixed"])
@pytest.mark.parametrize("declared", [NUMBER, DIAGONAL])
def test_gates(check: Check, declared: str, regime: Any) -> None:
    text = masked(f"{DECAY} * fenwick(lam) + {DECAY} * window(40) + {DECAY}", declared, WEIGHTS)
    check(text, case_of(text, 75, regime=regime), 16)


MASKS: dict[str, tuple[str, int, int | None]] = {
    "strong": (f"{DECAY} * {STRONG}", 120, 16),
    "strong, whole chunks": (f"{DECAY} * {STRONG}", 200, None),
    "base 3": (f"{DECAY} * fenwick(lam, base=3)", 100, 9),
    "base 3, usual chunks": (f"{DECAY} * fenwick(lam, base=3)", 170, None),
    "base 4": (f"{DECAY} * fenwick(lam, base=4)", 100, 16),
    "base 5": (f"{DECAY} * fenwick(lam, base=5)", 140, None),
    "base 10": (f"{DECAY} * fenwick(lam, base=10)", 115, 10),
    "base 16": (f"{DECAY} * fenwick(lam, base=16)", 100, None),
    "window inside a chunk": (f"{DECAY} * window(20) * fenwick(lam)", 70, None),
    "window of one": (f"{DECAY} * window(1) * fenwick(lam)", 70, None),
    "window of a chunk": (f"{DECAY} * window(16) * fenwick(lam)", 70, 16),
    "window past a chunk": (f"{DECAY} * window(17) * fenwick(lam)", 70, 16),
    "window past two": (f"{DECAY} * window(34) * fenwick(lam)", 70, 16),
    "window over all": (f"{DECAY} * window(300) * fenwick(lam)", 70, 16),
    "window and strong": (f"{DECAY} * window(45) * {STRONG}", 90, 16),
    "window and base 3": (f"{DECAY} * window(25) * fenwick(lam, base=3)", 50, 9),
    "two trees": (f"{DECAY} * fenwick(lam, base=2) + {DECAY} * fenwick(softplus(lam), base=4)", 150, None),
    "weak and strong": (f"{DECAY} * fenwick(lam) + {DECAY} * {STRONG}", 70, 16),
    "a tree and a scan": (f"{DECAY} * fenwick(lam) + {DECAY}", 70, 16),
    "a chunk of any size": (f"{DECAY} + window(30) * fenwick(lam, base=20)", 70, 20),
}


@pytest.mark.parametrize("declared", [NUMBER, DIAGONAL], ids=["number", "diagonal"])
@pytest.mark.parametrize("name", MASKS)
def test_masks(check: Check, name: str, declared: str) -> None:
    mask, T, chunk = MASKS[name]
    text = masked(mask, declared, WEIGHTS)
    check(text, case_of(text, T), chunk)


STEP, KEYS, UNITS = "b : token in [0, 1]", "kn = l2norm(k)", "qn = l2norm(q)"
DELTA, CHANNELS = "delta(kn, b)", "c : channel <= 0"

RANK_ONE: dict[str, tuple[str, ...]] = {
    "delta": (STEP, KEYS, DELTA),
    "keys that are no units": (STEP, "delta(k, b)"),
    "a decay": (NUMBER, STEP, KEYS, f"{DECAY} * {DELTA}"),
    "decays before": (CHANNELS, STEP, KEYS, f"{DELTA} @ semiseparable(c)"),
    "decays after": (CHANNELS, STEP, KEYS, f"semiseparable(c) @ {DELTA}"),
    "a decay and decays": (NUMBER, CHANNELS, STEP, KEYS, f"{DECAY} * ({DELTA} @ semiseparable(c))"),
    "decays of a head": ("c : head_channel <= 0", STEP, KEYS, f"{DELTA} @ semiseparable(c)"),
    "rank1": (STEP, KEYS, UNITS, "rank1(-b * kn, qn / 2)"),
    "rank1 before a decay": (NUMBER, STEP, KEYS, UNITS, f"rank1(-b * kn, qn / 2) @ {DECAY}"),
    "rank1 after decays": (CHANNELS, STEP, KEYS, UNITS, "semiseparable(c) @ rank1(-b * kn, qn / 2)"),
    "rank1 of other vectors": (
        "x, y : key", STEP, "xn = l2norm(x)", "yn = l2norm(y)",
        "rank1(b * xn / 2, -yn)",
    ),
    "rank1 that grows": (STEP, KEYS, "rank1(b * kn / 9, kn)"),
    "no steps": (KEYS, "delta(kn, 0)"),
    "projections": (KEYS, "delta(kn, 1)"),
    "reflections": (KEYS, "delta(kn, 2)"),
    "steps of any strength": (STEP, KEYS, "delta(kn, 2 * b)"),
    "keys of nearly one direction": (STEP, "u : head_channel", "kn = l2norm(k / 4 + u)", DELTA),
    "reflections of nearly one direction": ("u : head_channel", "kn = l2norm(k / 4 + u)", "delta(kn, 2)"),
    "projections of nearly one direction": (CHANNELS, "u : head_channel", "kn = l2norm(k / 4 + u)",
        "delta(kn, 1) @ semiseparable(c)"),
    "and a window": (STEP, KEYS, f"{DELTA} + window(40)"),
    "and a tree": (NUMBER, STEP, KEYS, WEIGHTS, f"{DELTA} + {DECAY} * fenwick(lam)"),
    "and a scan": (NUMBER, STEP, KEYS, f"{DELTA} + {DECAY}"),
    "twice": (NUMBER, CHANNELS, STEP, KEYS, f"{DECAY} * {DELTA} + delta(kn, 1) @ semiseparable(c)"),
    "in a window of one": (STEP, KEYS, f"{DELTA} * window(1)"),
}  # fmt: skip
"""Masks with rank-one steps, each behind the lines that it needs."""


def rank_one(name: str) -> str:
    *lines, mask = RANK_ONE[name]
    return masked(mask, *lines)


@pytest.mark.parametrize("name", RANK_ONE)
def test_rank_one_steps(check: Check, name: str) -> None:
    text = rank_one(name)
    check(text, case_of(text, 75, key_heads=1))


@pytest.mark.parametrize("T", [1, 31, 32, 33, 97])
@pytest.mark.parametrize("name", ["a decay", "decays before"])
def test_rank_one_lengths(check: Check, name: str, T: int) -> None:
    text = rank_one(name)
    check(text, case_of(text, T, B=2))


@pytest.mark.parametrize(("T", "chunk"), [(50, 20), (130, 64)])
@pytest.mark.parametrize("name", ["a decay", "decays before"])
def test_rank_one_chunks(check: Check, name: str, T: int, chunk: int) -> None:
    text = rank_one(name)
    check(text, case_of(text, T), chunk)


@pytest.mark.parametrize("regime", ["zero", "tiny", "strong5", "strong88", "mixed"])
@pytest.mark.parametrize("name", ["a decay", "decays before"])
def test_rank_one_gates(check: Check, name: str, regime: Any) -> None:
    text = rank_one(name)
    check(text, case_of(text, 50, regime=regime), 16)


@pytest.mark.parametrize("mask", [
    f"{DELTA} @ delta(qn, b)", f"{DELTA} @ {DECAY} @ rank1(-b * qn, kn)", f"{DELTA} * window(70)",
])  # fmt: skip
def test_rank_one_steps_without_kernels(run: Run, mask: str) -> None:
    text = masked(mask, STEP, KEYS, *([UNITS] if "qn" in mask else []), *([NUMBER] if "(g)" in mask else []))
    said = "a window" if "window" in mask else "several rank-one steps"
    with pytest.raises(CallError, match=f"'test' has {said}"):
        run(failures, text, case_of(text, 5))


OUTPUTS: dict[str, tuple[str, ...]] = {
    "a gate": (NUMBER, "z : value", f"return attend(q, k, v, {DECAY}) * silu(z)"),
    "a skip": ("z, y : value", "return attend(q, k, v, causal) + z - y"),
    "norms of vectors": (NUMBER, f"return attend(l2norm(q), l2norm(k), v, {DECAY})"),
    "a norm of the output": (NUMBER, f"return l2norm(attend(q, k, v, {DECAY}))"),
    "two outputs": (NUMBER, f"return attend(q, k, v, {DECAY}) - sigmoid(g) * attend(k, q, v, window(70))"),
    "an output of an output": (NUMBER, f"a = attend(q, k, v, {DECAY})", "return attend(k, q, a, window(70))"),
    "a window of a window": (
        f"a = attend(q, k, v, {DECAY} * window(70))", NUMBER,
        "return attend(k, q, a, window(66))",
    ),
    "an output of an output behind rank-one steps": (
        NUMBER, STEP, KEYS, f"a = attend(q, k, v, {DELTA})", f"return attend(k, q, a, {DECAY} * {DELTA}) - a",
    ),
    "two outputs of rank-one steps": (
        CHANNELS, STEP, KEYS, f"a = attend(q, k, v, {DELTA})",
        f"return a * sigmoid(b) - attend(k, q, v, {DELTA} @ semiseparable(c))",
    ),
    "gradients that are equal": ("a, b : token", "return attend(q, k, v, semiseparable(-softplus(a + b)))"),
    "inputs that cancel": ("a : head", "d : token", "return attend(q, k, v, causal) + (a - a + d - d) * v"),
    "parameters": (
        "a, D : head",
        "y : head_channel",
        "return attend(y * q, a * k, v, semiseparable(-softplus(y)) * semiseparable(-exp(a))) + D * v",
    ),
    "sizes": (
        "a : head",
        WEIGHTS,
        "return attend(q / T, k, v, semiseparable(-exp(a) / T - 1 / L) "
        "* fenwick(lam), scale=sqrt(B * H * Hk / (K + V)))",
    ),
    "names that generated text uses": (
        "t_n : token <= 0",
        "weight, state, in_n, n, h, q_ptr, q_b, depth, reads, lag, other, total, d_o, c : token",
        WEIGHTS,
        "m = semiseparable(t_n - exp(h * q_ptr * q_b * depth)) * fenwick(lam * reads)",
        "return attend(q * c, k * weight * state * in_n, v * n, m) "
        "+ (lag + other + total * d_o) * attend(q, k, v, window(70))",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs(check: Check, name: str) -> None:
    text = block(*OUTPUTS[name])
    check(text, case_of(text, 80, key_heads=1))


SIZES = [
    (1, 1, 1, ()),
    (200, 3, 1, ()),
    (16, 130, 2, ()),
    (5, 3, 4, (2, 1)),
    (24, 130, 4, (2, 1)),
    (17, 5, 3, (3, 1)),
]


@pytest.mark.parametrize("declared", [NUMBER, DIAGONAL], ids=["number", "diagonal"])
@pytest.mark.parametrize(("K", "V", "H", "key_heads"), SIZES)
def test_sizes(check: Check, declared: str, K: int, V: int, H: int, key_heads: tuple[int, ...]) -> None:
    """Tiles that are not full, several tiles of V, and key-side heads shared by several heads."""
    lines = (
        declared,
        WEIGHTS,
        f"m = {DECAY} * {STRONG} + {DECAY} * window(20) + causal",
        "a = attend(l2norm(q), k, v, m)",
    )
    text = block(*lines, "return a * sigmoid(v)")
    check(text, case_of(text, 40, K=K, V=V, H=H, key_heads=key_heads), 16)


@pytest.mark.parametrize("name", ["a decay", "decays before"])
@pytest.mark.parametrize(("K", "V", "H", "key_heads"), SIZES)
def test_rank_one_sizes(check: Check, name: str, K: int, V: int, H: int, key_heads: tuple[int, ...]) -> None:
    text = rank_one(name)
    check(text, case_of(text, 40, K=K, V=V, H=H, key_heads=key_heads), 16)


def test_a_norm_over_several_tiles(check: Check) -> None:
    text = block(
        NUMBER, f"a = l2norm(attend(q, k, v, {DECAY} * window(70)))", "return attend(k, q, a, causal) * tanh(a)"
    )
    check(text, case_of(text, 70, V=150))


@pytest.mark.parametrize(("K", "V"), [(70, 5), (20, 130)])
@pytest.mark.parametrize("declared", [NUMBER, DIAGONAL], ids=["number", "diagonal"])
def test_scans_that_make_what_they_carry(run: Run, declared: str, K: int, V: int) -> None:
    """Programs of such a scan have some of the channels and columns; the norm of a key needs all of its channels."""
    for text in (masked(DECAY, declared), block(declared, f"return attend(l2norm(q), l2norm(k), v, {DECAY})")):
        assert not run(failures_of_a_full_gpu, text, case_of(text, 70, K=K, V=V)), text


def test_hierarchies_without_a_common_chunk() -> None:
    assert supported(masked("fenwick(lam) + fenwick(lam, base=4)", WEIGHTS))
    assert not supported(masked("fenwick(lam) + fenwick(lam, base=3)", WEIGHTS))


@settings(
    max_examples=16,
    derandomize=True,
    deadline=None,
    phases=(Phase.generate,),
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(st.data())
def test_random_specs(check: Check, data: st.DataObject) -> None:
    text = data.draw(spec_texts())
    assume(supported(text))
    case = Case(data.draw(shapes(maskdsl.compile(text).spec)), data.draw(regimes()), 0)
    # the gradient of a vector of length 1 with one channel is nothing but rounding
    assume(case.shape.K > 1 or not any(step in text for step in ("delta(", "rank1(")))
    check(text, case)


@pytest.mark.parametrize(
    ("path", "declared", "base"),
    [
        ("causal", (), 2),
        (DECAY, (NUMBER,), 3),
        (DECAY, (DIAGONAL,), 2),
        ("delta(k, b)", ("b : token",), 2),
        ("delta(k, b)", ("b : token",), 3),
    ],
)
def test_readers_of_large_blocks_come_in_runs(run: Run, path: str, declared: tuple[str, ...], base: int) -> None:
    text = masked(f"{path} * fenwick(lam, base={base})", *declared, WEIGHTS)
    chunk = 4 if base == 2 else base
    # a parent that is just begun, and blocks that end where the sequence does
    for T in ((base**2 + 1) * chunk + 1, 2 * base**2 * chunk):
        found = run(failures_in_runs, text, case_of(text, T), chunk)
        assert not found, (text, T, found)


@pytest.mark.parametrize(
    "name", ["a decay", "decays before", "rank1 before a decay", "rank1 of other vectors", "twice"]
)
def test_scans_in_segments(run: Run, name: str) -> None:
    text = rank_one(name)
    found = run(in_parallel_segments, failures, 1, text, case_of(text, 75, key_heads=1), 16)
    assert not found, (text, found)


def test_segments_of_several_chunks_and_of_none(run: Run) -> None:
    text = rank_one("a decay and decays")
    found = run(in_parallel_segments, failures, 2, text, case_of(text, 140, H=1), 16)
    assert not found, (text, found)


@pytest.mark.parametrize(("K", "V"), [(70, 5), (20, 130)])
def test_segments_of_several_tiles(run: Run, K: int, V: int) -> None:
    text = rank_one("a decay")
    found = run(in_parallel_segments, failures, 1, text, case_of(text, 40, H=1, K=K, V=V), 16)
    assert not found, (text, found)
