"""Every tile function against the meaning of its operation, in Triton's interpreter; and compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest
import tile_kernels
import torch
from torch import Tensor

from maskdsl.chunk import ops
from maskdsl.chunk.interpret import Interpreter
from maskdsl.chunk.ops import Operation
from maskdsl.mask.levels import Admissibility, level, levels

C, K, LP = 32, 16, 16

Run = Callable[..., list[Tensor]]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Run a kernel by name: its operands, the shapes of its outputs, its constants."""
    with tile_kernels.triton_process(interpret=True) as pool:

        def launch(
            name: str, *arguments: Tensor | int, shapes: list[tuple[int, ...]], **constants: object
        ) -> list[Tensor]:
            operands = tuple(x.float().contiguous() if isinstance(x, Tensor) else x for x in arguments)
            outputs = [torch.full(shape, torch.nan) for shape in shapes]
            return pool.submit(tile_kernels.run, name, operands, outputs, constants).result()

        yield launch


def meaning(op: Operation, *x: Tensor, **sizes: int) -> list[Tensor]:
    """The results of an operation on tiles, in float64."""
    chunks = [t.double()[None, None, None] for t in x]
    return [t[0, 0, 0] for t in Interpreter(sizes).step(op, chunks, [("B", "H", "N", "C")] * len(x))]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def log_decays(regime: str, *shape: int) -> Tensor:
    g = -noise(*shape, seed=7).abs()
    match regime:
        case "zero":
            return 0 * g
        case "strong":
            return 30 * g
        case "mixed":
            # steps that forget everything next to steps that forget nothing
            return torch.where(noise(*shape, seed=8) > 1, -1e4, 1e-3 * g)
    return g


REGIMES = ["plain", "zero", "strong", "mixed"]
POINTS = [(1, 1), (0, 0), (0, 1), (1, 0)]


def assert_near(found: Tensor, expected: Tensor, tolerance: float) -> None:
    assert found.shape == expected.shape
    assert torch.isfinite(found).all()
    assert (found - expected).abs().max() <= tolerance * expected.abs().max().clamp(min=1e-30)


@pytest.mark.parametrize(("operand", "precision", "tolerance"), [("fp32", "ieee", 1e-6), ("fp16", "tf32", 2e-3)])
def test_dot(run: Run, operand: str, precision: str, tolerance: float) -> None:
    x, y = noise(C, K), noise(K, C, seed=1)
    (found,) = run("dot", x, y, shapes=[(C, C)], C=C, K=K, OPERAND=operand, PRECISION=precision)
    assert_near(found, (x.double() @ y.double()), tolerance)


def system(kind: str, size: int) -> Tensor:
    """A strictly lower triangular tile: what the steps I - 2 k k' of a chunk read of one another."""
    match kind:
        case "zero":
            return torch.zeros(size, size)
        case "random":
            keys = noise(size, K) / K**0.5
        case "last rows beyond the data":
            keys = noise(size, K) / K**0.5
            keys[size - 7 :] = 0
        case _:
            # reflections along nearly one direction
            keys = torch.nn.functional.normalize(noise(1, K) + 0.1 * noise(size, K, seed=1), dim=1)
    return -2 * (keys @ keys.mT).tril(-1)


SYSTEMS = ["random", "correlated", "last rows beyond the data", "zero"]


@pytest.mark.parametrize("kind", SYSTEMS)
@pytest.mark.parametrize("size", [16, 32, 64, 128, 256])
def test_inverse(run: Run, kind: str, size: int) -> None:
    lower = system(kind, size)
    (found,) = run("inverse", lower, shapes=[(size, size)], C=size, PRECISION="ieee")
    (expected,) = meaning(ops.Inverse(), lower)
    # an element is a sum of as many terms as lie between its row and its column, some larger than the sum
    assert_near(found, expected, size * torch.finfo(torch.float32).eps)
    assert torch.equal(found.triu(), torch.eye(size))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
def test_cumsum(run: Run, reverse: bool, exclusive: bool) -> None:
    flags = {"REVERSE": reverse, "EXCLUSIVE": exclusive}
    x = noise(C, K)
    # an element taken away from a sum that holds it would leave its rounding
    x[5] = 1e9
    op = ops.Cumsum(reverse, exclusive)
    (expected,) = meaning(op, x)
    (found,) = run("cumsum", x, shapes=[(C, K)], C=C, K=K, **flags)
    (vector,) = run("cumsum_vector", x[:, 0], shapes=[(C,)], C=C, **flags)
    (narrow,) = run("cumsum_narrow", x, shapes=[(C, K)], C=C, K=K, **flags)
    small = expected.abs() < 1e6
    assert_near(narrow[small], expected[small], 2e-5)
    assert_near(narrow, expected, 2e-5)
    assert_near(found[small], expected[small], 1e-6)
    assert_near(found, expected, 1e-6)
    assert_near(vector, expected[:, 0], 1e-6)


@pytest.mark.parametrize("points", POINTS)
@pytest.mark.parametrize("regime", REGIMES)
def test_spans_are_exact_in_float32(run: Run, points: tuple[int, int], regime: str) -> None:
    g = log_decays(regime, C)
    (found,) = run("spans", g, shapes=[(C, C)], C=C, ROW=points[0], COLUMN=points[1], WIDE=True)
    (expected,) = meaning(ops.Spans(1, *points), g)
    assert (found - expected).abs().le(1e-7 * expected.abs() + 1e-10).all()


@pytest.mark.parametrize("points", POINTS)
@pytest.mark.parametrize("regime", REGIMES)
def test_narrow_spans_decay_by_the_right_factor(run: Run, points: tuple[int, int], regime: str) -> None:
    g = log_decays(regime, C)
    (found,) = run("spans", g, shapes=[(C, C)], C=C, ROW=points[0], COLUMN=points[1], WIDE=False)
    (expected,) = meaning(ops.Spans(1, *points), g)
    assert (found.exp() - expected.exp()).abs().max() < 1e-3


@pytest.mark.parametrize("points", POINTS)
@pytest.mark.parametrize("wide", [True, False])
def test_spans_adjoint(run: Run, points: tuple[int, int], wide: bool) -> None:
    d = noise(C, C)
    (found,) = run("spans_adjoint", d, shapes=[(C,)], C=C, ROW=points[0], COLUMN=points[1], WIDE=wide)
    assert_near(found, meaning(ops.SpansAdjoint(1, *points), d)[0], 1e-6)


@pytest.mark.parametrize("points", POINTS)
def test_wide_spans_adjoint_is_a_sum(run: Run, points: tuple[int, int]) -> None:
    d = noise(C, C)
    # large pairs that lie before most decays: no trace of them may stay in the gradients of those
    d[:4] = 1e9
    (found,) = run("spans_adjoint", d, shapes=[(C,)], C=C, ROW=points[0], COLUMN=points[1], WIDE=True)
    assert_near(found[8:], meaning(ops.SpansAdjoint(1, *points), d)[0][8:], 1e-6)


@pytest.mark.parametrize("diagonal", [0, -1])
def test_tril(run: Run, diagonal: int) -> None:
    (found,) = run("tril", noise(C, C), shapes=[(C, C)], C=C, DIAGONAL=diagonal)
    torch.testing.assert_close(found, noise(C, C).tril(diagonal), rtol=0, atol=0)


@pytest.mark.parametrize("width", [1, 5, C])
def test_near(run: Run, width: int) -> None:
    (found,) = run("near", noise(C, C), shapes=[(C, C)], C=C, WIDTH=width)
    (expected,) = meaning(ops.Near(width), noise(C, C))
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=0)


HIERARCHIES = [
    (16, 16, 2, False),
    (64, 64, 2, False),
    (128, 128, 2, False),
    (64, 64, 4, False),
    (32, 27, 3, False),
    (128, 125, 5, False),
    (32, 32, 16, False),
    (16, 16, 2, True),
    (64, 64, 2, True),
    (128, 128, 2, True),
]


def admissibility(strong: bool) -> Admissibility:
    return "strong" if strong else "weak"


@pytest.mark.parametrize(("rows", "size", "base", "strong"), HIERARCHIES)
def test_select(run: Run, rows: int, size: int, base: int, strong: bool) -> None:
    lam = torch.zeros(rows, LP)
    lam[:size] = noise(size, LP)
    (found,) = run("select", lam, shapes=[(rows, rows)], C=rows, LP=LP, BASE=base, STRONG=strong)
    (expected,) = meaning(ops.Select(base, admissibility(strong)), lam)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=0)


@pytest.mark.parametrize(("rows", "size", "base", "strong"), HIERARCHIES)
def test_select_adjoint(run: Run, rows: int, size: int, base: int, strong: bool) -> None:
    d = torch.zeros(rows, rows)
    d[:size, :size] = noise(size, size)
    (found,) = run("select_adjoint", d, shapes=[(rows, LP)], C=rows, LP=LP, BASE=base, STRONG=strong)
    (expected,) = meaning(ops.SelectAdjoint(base, admissibility(strong)), d, L=LP)
    assert_near(found, expected, 1e-6)


@pytest.mark.parametrize("at", [0, 3, 15])
def test_columns(run: Run, at: int) -> None:
    lam = noise(C, LP)
    (found,) = run("columns", lam, at, shapes=[(C, LP)], C=C, LP=LP)
    torch.testing.assert_close(found, lam * (torch.arange(LP) == at), rtol=0, atol=0)


@pytest.mark.parametrize(("rows", "size", "base", "strong"), [
    (16, 16, 2, False), (32, 27, 3, False), (16, 16, 4, False), (16, 16, 2, True), (32, 32, 2, True)
])  # fmt: skip
@pytest.mark.parametrize(("n", "m"), [(1, 0), (2, 0), (2, 1), (3, 0), (7, 6), (8, 7), (9, 4), (40, 3)])
def test_pair_weights(run: Run, rows: int, size: int, base: int, strong: bool, n: int, m: int) -> None:
    lam = torch.zeros(rows, LP)
    lam[:size] = noise(size, LP)
    (found,) = run("pair_weights", lam, n, m, shapes=[(rows, rows)], C=rows, LP=LP, SIZE=size, BASE=base, STRONG=strong)
    expected = torch.zeros(rows, rows)
    for c in range(size):
        for s in range(size):
            expected[c, s] = lam[c, level(n * size + c, m * size + s, base, admissibility(strong))]
    assert levels((n + 1) * size, base, admissibility(strong)) <= LP
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_softplus_is_precise_relative_to_itself(run: Run) -> None:
    x = torch.linspace(-30, 80, 1024)
    (found,) = run("softplus", x, shapes=[(1024,)], C=1024)
    expected = torch.logaddexp(x.double(), torch.zeros(1024, dtype=torch.float64))
    assert (found / expected - 1).abs().max() < 2e-6


def test_narrow_exp_is_precise_relative_to_itself(run: Run) -> None:
    """However large the logs are, and whatever float32 would round off them."""
    x, y = torch.linspace(-85, 80, 1024), 1e-5 * noise(1024)
    (found,) = run("narrow_exp", x, y, shapes=[(1024,)], C=1024)
    assert (found / (x.double() + y.double()).exp() - 1).abs().max() < 1e-6


def test_narrow_exp_of_what_is_forgotten(run: Run) -> None:
    (found,) = run("narrow_exp", torch.full((16,), -1e9), torch.zeros(16), shapes=[(16,)], C=16)
    assert found.eq(0).all()


@pytest.mark.parametrize("rows", [1, 4, C])
def test_folded(run: Run, rows: int) -> None:
    x = noise(C, K)
    (found,) = run("folded", x, shapes=[(rows, K)], C=C, K=K, ROWS=rows)
    assert_near(found, x.double().view(-1, rows, K).sum(0), 1e-6)


@pytest.mark.parametrize(("base", "strong"), [(2, False), (3, False), (10, False), (2, True)])
@pytest.mark.parametrize("pos", [0, 1, 2, 3, 7, 8, 12, 26, 63, 80, 99, 255])
def test_levels_to_go_through(run: Run, pos: int, base: int, strong: bool) -> None:
    def held(t: int) -> set[int]:
        return {level(t, s, base, admissibility(strong)) for s in range(t)}

    for count in (1, 3, 40):
        (found,) = run("held_levels", pos, count, shapes=[(42,)], BASE=base, STRONG=strong)
        reach, number, *rest = found.tolist()
        expected = set(range(1, max(held(pos + 1)) + 1)) if strong else held(pos)
        assert rest[: int(number)] == [j for j in sorted(expected) if j <= count]
        assert reach == min(j for j in range(1, 20) if (pos + 1) % base**j)


@pytest.mark.parametrize("pos", [1, 2, 3, 7, 8, 12, 26, 37, 63, 64, 65, 80, 99, 127])
def test_what_a_state_holds_under_strong_admissibility(run: Run, pos: int) -> None:
    held = [level(pos, s, 2, "strong") for s in range(pos)]
    count = max(held)
    (found,) = run("levels_held", pos, count, shapes=[(3 * count + C,)], C=C)
    firsts = [held.index(j) for j in range(1, count + 1)]

    def met(j: int, i: int) -> int:
        """The first position that sees both levels as one."""
        return next(t for t in range(pos, 8 * pos + 8) if len({level(t, firsts[x], 2, "strong") for x in (j, i)}) == 1)

    for j, (first, next_met, all_met) in enumerate(found[: 3 * count].view(-1, 3).long().tolist()):
        assert first == firsts[j]
        assert j == count - 1 or next_met == met(j, j + 1)
        assert j == 0 or all_met == max(met(j, i) for i in range(j))
    near = range(pos, max(pos - C, -1), -1)
    assert found[3 * count :][: len(near)].tolist() == [level(pos, s, 2, "strong") for s in near]


DECAYS = [(points, regime, diagonal) for points in POINTS for regime in REGIMES for diagonal in (0, -1)]


@pytest.mark.parametrize(("points", "regime", "diagonal"), DECAYS)
def test_decay_dot(run: Run, points: tuple[int, int], regime: str, diagonal: int) -> None:
    q, k, g = noise(C, K), noise(C, K, seed=1), log_decays(regime, C, K)
    constants = {"C": C, "K": K, "ROW": points[0], "COLUMN": points[1], "DIAGONAL": diagonal}
    (found,) = run("decay_dot", q, k, g, shapes=[(C, C)], **constants, OPERAND="fp32", PRECISION="ieee")
    assert_near(found, meaning(ops.DecayDot(1, *points, diagonal), q, k, g)[0], 1e-6)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("points", POINTS)
def test_decay_dots(run: Run, points: tuple[int, int], regime: str) -> None:
    """Of several blocks, and blocks of these."""
    q, r, k, g = *(noise(64, K, seed=seed) for seed in range(3)), log_decays(regime, 64, K)
    constants = {"C": 64, "K": K, "ROW": points[0], "COLUMN": points[1]}
    (found,) = run("decay_dots", q, r, k, g, shapes=[(64, 64)], **constants, OPERAND="fp32", PRECISION="ieee")
    assert_near(found.tril(), meaning(ops.DecayDot(1, *points, 0), q, k, g)[0], 1e-6)
    assert_near(found.triu(1).T, meaning(ops.DecayDot(1, *points, -1), r, k, g)[0], 1e-6)


def test_decay_dots_of_queries_of_different_sizes(run: Run) -> None:
    q, r, k, g = noise(64, K), 1e6 * noise(64, K, seed=1), 1e-7 * noise(64, K, seed=2), log_decays("mild", 64, K)
    constants = {"C": 64, "K": K, "ROW": 1, "COLUMN": 1, "OPERAND": "fp16", "PRECISION": "tf32"}
    (found,) = run("decay_dots", q, r, k, g, shapes=[(64, 64)], **constants)
    assert_near(found.tril(), meaning(ops.DecayDot(1, 1, 1, 0), q, k, g)[0], 2e-3)
    assert_near(found.triu(1).T, meaning(ops.DecayDot(1, 1, 1, -1), r, k, g)[0], 2e-3)


@pytest.mark.parametrize(("points", "regime", "diagonal"), DECAYS)
def test_decay_dot_adjoint(run: Run, points: tuple[int, int], regime: str, diagonal: int) -> None:
    d, q, k, g = noise(C, C, seed=2).tril(diagonal), noise(C, K), noise(C, K, seed=1), log_decays(regime, C, K)
    constants = {"C": C, "K": K, "ROW": points[0], "COLUMN": points[1], "DIAGONAL": diagonal}
    shapes = [(C, K)] * 3
    found = run("decay_dot_adjoint", d, q, k, g, shapes=shapes, **constants, OPERAND="fp32", PRECISION="ieee")
    expected = meaning(ops.DecayDotAdjoint(1, *points, diagonal), d, q, k, g)
    for x, y in zip(found, expected, strict=True):
        assert_near(x, y, 1e-6)


@pytest.mark.parametrize("scale", [1, 1e-7, 1e6])
@pytest.mark.parametrize(("points", "regime", "diagonal"), DECAYS)
def test_decays_with_narrow_operands(
    run: Run, points: tuple[int, int], regime: str, diagonal: int, scale: float
) -> None:
    """Also of vectors and gradients beyond the range of float16."""
    d, q, k, g = noise(C, C, seed=2).tril(diagonal), noise(C, K), noise(C, K, seed=1), log_decays(regime, C, K)
    d, q = d / scale, q * scale
    constants = {"C": C, "K": K, "ROW": points[0], "COLUMN": points[1], "DIAGONAL": diagonal}
    narrow = {"OPERAND": "fp16", "PRECISION": "tf32"}
    (scores,) = run("decay_dot", q, k, g, shapes=[(C, C)], **constants, **narrow)
    assert_near(scores, meaning(ops.DecayDot(1, *points, diagonal), q, k, g)[0], 2e-3)
    found = run("decay_dot_adjoint", d, q, k, g, shapes=[(C, K)] * 3, **constants, **narrow)
    expected = meaning(ops.DecayDotAdjoint(1, *points, diagonal), d, q, k, g)
    for x, y in zip(found, expected, strict=True):
        assert_near(x, y, 2e-3)


def test_padding_stays_zero(run: Run) -> None:
    q, k, g, d = (torch.zeros(32, 16) for _ in range(4))
    d = torch.zeros(32, 32)
    for x in (q, k, g):
        x[:27, :5] = noise(27, 5)
    g = -g.abs()
    d[:27, :27] = noise(27, 27)
    constants = {"C": 32, "K": 16, "ROW": 1, "COLUMN": 1, "DIAGONAL": 0, "OPERAND": "fp32", "PRECISION": "ieee"}
    (s,) = run("decay_dot", q, k, g, shapes=[(32, 32)], **constants)
    assert s[27:].eq(0).all()
    assert s[:, 27:].eq(0).all()
    for x in run("decay_dot_adjoint", d, q, k, g, shapes=[(32, 16)] * 3, **constants):
        assert x[:27, :5].ne(0).any()
        assert x[27:].eq(0).all()
        assert x[:, 5:].eq(0).all()


DECAY = {"C": 64, "K": 64, "ROW": 1, "COLUMN": 1, "DIAGONAL": 0}
TWICE = {name: value for name, value in DECAY.items() if name != "DIAGONAL"}
HIERARCHY = {"C": 64, "LP": 16, "BASE": 2}
COMPILED: list[tuple[str, dict[str, object]]] = [
    ("dot", {"C": 64, "K": 64, "OPERAND": "bf16", "PRECISION": "ieee"}),
    ("inverse", {"C": 64, "PRECISION": "ieee"}),
    ("inverse", {"C": 64, "PRECISION": "tf32"}),
    ("cumsum", {"C": 64, "K": 128, "REVERSE": True, "EXCLUSIVE": True}),
    ("folded", {"C": 128, "K": 64, "ROWS": 32}),
    ("held_levels", {"BASE": 2, "STRONG": False}),
    ("levels_held", {"C": 64}),
    ("narrow_exp", {"C": 64}),
    ("spans", {"C": 64, "ROW": 1, "COLUMN": 1, "WIDE": True}),
    ("spans_adjoint", {"C": 64, "ROW": 1, "COLUMN": 0, "WIDE": False}),
    ("select", {**HIERARCHY, "STRONG": False}),
    ("select_adjoint", {**HIERARCHY, "STRONG": True}),
    ("pair_weights", {**HIERARCHY, "STRONG": True, "SIZE": 64}),
    ("decay_dot", {**DECAY, "OPERAND": "bf16", "PRECISION": "ieee"}),
    ("decay_dots", {**TWICE, "OPERAND": "fp16", "PRECISION": "tf32"}),
    ("decay_dots", {**TWICE, "OPERAND": "fp32", "PRECISION": "tf32"}),
    ("decay_dot_adjoint", {**DECAY, "OPERAND": "bf16", "PRECISION": "ieee"}),
    ("decay_dot_adjoint", {**DECAY, "OPERAND": "fp32", "PRECISION": "tf32"}),
]


@pytest.fixture(scope="module")
def compiler() -> Iterator[ProcessPoolExecutor]:
    """A process that compiles."""
    with tile_kernels.triton_process(interpret=False) as pool:
        yield pool


@pytest.mark.parametrize(("name", "constants"), COMPILED)
@pytest.mark.parametrize(("backend", "target", "limit"), [("cuda", 90, 232448), ("hip", "gfx942", 65536)])
def test_compiles_without_a_gpu(
    compiler: ProcessPoolExecutor,
    name: str,
    constants: dict[str, object],
    backend: str,
    target: int | str,
    limit: int,
) -> None:
    assert compiler.submit(tile_kernels.shared_memory, name, constants, 4, backend, target).result() <= limit
