"""Benchmarks: what is timed, against what, and how errors are found."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import maskdsl
from maskdsl.mask.levels import level
from maskdsl.runtime.benchmark import PEERS, Bench, Effort, Problem, Row, compare, probe, relative
from maskdsl.runtime.benchmark.fresh import CACHES, fresh_caches
from maskdsl.runtime.benchmark.measure import System, measure
from maskdsl.runtime.benchmark.meter import CpuMeter, Work, median
from maskdsl.runtime.benchmark.operators import FLA, MAMBA_SSM, Operator
from maskdsl.runtime.benchmark.peers import Unfit
from maskdsl.runtime.benchmark.picture import draw
from maskdsl.runtime.benchmark.report import markdown, notes, table, to_csv
from maskdsl.runtime.benchmark.roofline import Ceilings, Floor, ceilings, floor

CEILINGS = Ceilings(1e9, 1e12)


class Counting:
    """A meter whose every answer is known; it counts what it ran."""

    def __init__(self) -> None:
        self.timed = 0

    def seconds(self, work: Work) -> float:
        work()
        return 2.0

    def milliseconds(self, work: Work) -> float:
        work()
        self.timed += 1
        return float(self.timed)

    def host_milliseconds(self, work: Work) -> float:
        work()
        return 0.5

    def peak_megabytes(self, work: Work) -> float:
        work()
        return 7.0


def problem(name: str = "log_linear_mamba2", length: int = 40, key_heads: int | None = None, **sizes: Any) -> Problem:
    chosen = {"batch": 2, "heads": 4, "key": 8, "value": 4, "dtype": torch.float32, "device": "cpu"} | sizes
    return Problem.of(maskdsl.compile(name).spec, length=length, key_heads=key_heads, **chosen)


def test_vectors_have_the_dtype_of_the_call_and_the_rest_float32() -> None:
    inputs = problem("log_linear_gla", key_heads=2, dtype=torch.bfloat16).inputs()
    dtypes = {name: x.dtype for name, x in inputs.items()}
    assert dtypes == dict.fromkeys(("q", "k", "v", "f"), torch.bfloat16) | {"lam": torch.float32}
    assert inputs["q"].shape == (2, 40, 2, 8)
    assert inputs["lam"].shape == (2, 40, 4, 7)


def test_rotations_hold_the_same_tokens_in_another_order_and_place() -> None:
    case = problem()
    inputs = case.inputs()
    first, second = case.rotations(inputs, 2)
    assert all(torch.equal(first[name], inputs[name]) for name in inputs)
    assert torch.equal(second["v"], torch.cat([inputs["v"][:, 20:], inputs["v"][:, :20]], dim=1))
    assert torch.equal(second["A_log"], inputs["A_log"])
    assert len({x["v"].data_ptr() for x in (inputs, first, second)}) == 3


def test_a_median_takes_the_works_in_turn_and_leaves_out_the_warm_up() -> None:
    ran: list[str] = []
    meter = Counting()
    result = median(meter.milliseconds, [lambda: ran.append("a"), lambda: ran.append("b")], warmup=2, repeats=3)
    assert ran == ["a", "b", "a", "b", "a"]
    assert (meter.timed, result) == (3, 2.0)


def test_the_cpu_meter_measures_time_and_nothing_else() -> None:
    meter = CpuMeter()
    assert 0 < meter.milliseconds(lambda: sum(range(10000))) < 1000
    assert meter.host_milliseconds(int) is None
    assert meter.peak_megabytes(int) is None


def test_ceilings_count_bytes_both_ways_and_two_operations_a_term() -> None:
    class Second(Counting):
        def milliseconds(self, work: Work) -> float:
            return 1000.0

    assert ceilings(Second(), torch.float32, "cpu") == Ceilings(2 * 2**26, 2 * 1024**3)


def test_the_floor_is_the_larger_of_bytes_and_operations() -> None:
    case = problem("retention", batch=1, length=64, heads=1)
    inputs = case.inputs()
    read, written = 4 * (64 * (8 + 8 + 4) + 1), 4 * 64 * 4
    moved = floor(case, inputs, Ceilings(1e6, 1e30))
    assert moved == pytest.approx(Floor((read + written) / 1e3, (3 * read + 2 * written) / 1e3))
    computed = floor(case, inputs, Ceilings(1e30, 1e6))
    assert computed.forward == pytest.approx(64 * 2 * 64 * (8 + 4) / 1e3)
    assert computed.training == pytest.approx(3 * computed.forward)
    twice = floor(problem("retention", batch=2, length=64, heads=1), inputs, Ceilings(1e30, 1e6))
    assert twice.forward == pytest.approx(2 * computed.forward)


def test_a_row_holds_medians_and_shares_of_the_floor() -> None:
    case = problem()
    attention = maskdsl.compile("log_linear_mamba2")
    row = measure(System("own", lambda x: attention(**x)), case, case.inputs(), Counting(), Effort(1, 3), Floor(1, 1))
    assert row == Row("own", 40, 2.0, 0.5, 5.0, 0.2, peak=7.0, host=0.5, first=4.0)


def test_what_a_system_survives_becomes_a_note_and_keeps_what_came_before() -> None:
    def run(x: Mapping[str, Tensor]) -> Tensor:
        if torch.is_grad_enabled():
            raise RuntimeError("no backward pass\n on this GPU")
        return x["v"]

    case = problem()
    row = measure(
        System("peer", run, survived=(Exception,)), case, case.inputs(), Counting(), Effort(0, 1), Floor(1, 1)
    )
    assert (row.forward, row.training) == (1.0, None)
    assert row.note == "RuntimeError: no backward pass on this GPU"
    with pytest.raises(RuntimeError):
        measure(System("own", run), case, case.inputs(), Counting(), Effort(0, 1), Floor(1, 1))


@pytest.mark.parametrize("key_heads", [1, 2, 4])
@pytest.mark.parametrize("name", ["log_linear_mamba2", "kda"])
def test_errors_of_the_part_are_those_of_rounding(name: str, key_heads: int) -> None:
    attention, case = maskdsl.compile(name), problem(name, key_heads=key_heads)
    inputs = case.inputs()
    asked = probe(attention, case, inputs)
    assert asked.inputs["q"].shape == (1, 40, 2 if key_heads == 4 else 1, 8)
    exact = asked.exact()
    assert set(exact) == {"o", *(f"d_{each}" for each in inputs)}
    errors = relative(asked.found(System("own", lambda x: attention(**x)), inputs), exact)
    assert max(errors.values()) < 1e-5
    wrong = relative(asked.found(System("wrong", lambda x: 1.01 * attention(**x)), inputs), exact)
    assert wrong == pytest.approx(dict.fromkeys(exact, 0.01), rel=1e-2)


def test_an_error_of_what_is_no_number_is_infinite() -> None:
    assert relative({"o": torch.tensor([torch.nan])}, {"o": torch.ones(1)}) == {"o": torch.inf}


def recurrence(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor | None, lam: Tensor | None, scale: float | None
) -> Tensor:
    """All published operators in one, token by token; `g` [B, T, H, K] or [B, T, H, 1]."""
    group = v.shape[2] // q.shape[2]
    q, k = (x.repeat_interleave(group, dim=2) for x in (q, k))
    states: list[Tensor] = []
    outputs = []
    for t in range(q.shape[1]):
        states = [g[:, t].exp().unsqueeze(-1) * state for state in states]
        if beta is not None:
            key = k[:, t].unsqueeze(-1)
            states = [s - beta[:, t, :, None, None] * key * (key.transpose(-1, -2) @ s) for s in states]
        write = 1 if beta is None else beta[:, t, :, None, None]
        states.append(write * k[:, t].unsqueeze(-1) * v[:, t].unsqueeze(-2))
        reads = [(state * q[:, t].unsqueeze(-1)).sum(-2) for state in states]
        weights = [1 if lam is None else lam[:, t, :, level(t, s)].unsqueeze(-1) for s in range(t + 1)]
        outputs.append(sum(weight * read for weight, read in zip(weights, reads, strict=True)))
    return torch.stack(outputs, dim=1) * (q.shape[-1] ** -0.5 if scale is None else scale)


def fla(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    g: Tensor | None = None,
    g_gamma: Tensor | None = None,
    beta: Tensor | None = None,
    level_scales: Tensor | None = None,
    scale: float | None = None,
    normalize: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
) -> tuple[Tensor, None]:
    """What the chunk functions of flash-linear-attention are documented to compute."""
    assert not normalize
    if use_qk_l2norm_in_kernel:
        q, k = (x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt() for x in (q, k))
    g = torch.zeros(v.shape[:3]) if g is None else g
    g = g if g_gamma is None else g_gamma.expand(v.shape[:3])
    return recurrence(q, k, v, g if g.ndim == 4 else g.unsqueeze(-1), beta, level_scales, scale), None


def mamba_ssm(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    chunk_size: int,
    D: Tensor,
    dt_bias: Tensor,
    dt_softplus: bool,
) -> Tensor:
    """What `mamba_chunk_scan_combined` is documented to compute."""
    assert chunk_size == 256
    assert dt_softplus
    step = torch.nn.functional.softplus(dt + dt_bias)
    o = recurrence(C, B, step.unsqueeze(-1) * x, (A * step).unsqueeze(-1), None, None, 1.0)
    return o + D.unsqueeze(-1) * x


OPERATORS = [
    *((name, operator, fla) for name, operator in FLA.items()),
    *((name, operator, mamba_ssm) for name, operator in MAMBA_SSM.items()),
]


@pytest.mark.parametrize(("name", "operator", "meaning"), OPERATORS)
def test_published_operators_get_what_makes_them_compute_the_definition(
    name: str, operator: Operator, meaning: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = problem(name, length=20, key_heads=2)
    inputs = case.inputs()
    stub = ModuleType(operator.module)
    setattr(stub, operator.function, meaning)
    monkeypatch.setitem(sys.modules, operator.module, stub)
    operands = operator.prepare(inputs)
    found = operator.load()(operands)
    exact = maskdsl.compile(name).reference(**inputs)
    assert relative({"o": found}, {"o": exact})["o"] < 1e-6
    shared = {x.shape[2] for key, x in operands.items() if key in ("q", "k", "B", "C")}
    assert shared == ({2} if operator.grouped else {4})


@pytest.mark.parametrize(
    ("peer", "name", "changes", "reason"),
    [
        ("flash", "gla", {}, "'flash' is timed on a GPU only."),
        ("cudnn", "gla", {"device": "cuda"}, "'cudnn' is timed in bf16 only."),
        ("fla", "gla", {}, "'fla' is timed on a GPU only."),
        ("fla", "rwkv7", {"device": "cuda"}, "'fla' has no operator for 'rwkv7'."),
        ("mamba_ssm", "gla", {"device": "cuda"}, "'mamba_ssm' has no operator for 'gla'."),
    ],
)
def test_a_peer_that_does_not_fit_says_why(peer: str, name: str, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unfit) as raised:
        PEERS[peer](problem(name, **changes))
    assert str(raised.value) == reason


def test_a_peer_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fla.ops.gla", None)
    with pytest.raises(Unfit, match=r"^'fla' cannot be imported \(.*\); install it with: pip install"):
        PEERS["fla"](problem("gla", device="cuda"))


def test_softmax_attention_has_the_heads_and_the_value_size_of_the_problem() -> None:
    system = PEERS["flash"](problem("gla", device="cuda", dtype=torch.bfloat16))
    assert not system.same


def test_peers_stand_beside_the_spec_and_failures_become_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    attention, case = maskdsl.compile("gla"), problem("gla")

    def fail(x: Mapping[str, Tensor]) -> Tensor:
        raise RuntimeError("broken")

    def missing(_: Problem) -> System:
        raise Unfit("'missing' is missing.")

    peers = {
        "good": lambda _: System("good", lambda x: attention(**x)),
        "other": lambda _: System("other", lambda x: 2 * attention(**x)),
        "unlike": lambda _: System("unlike", lambda x: x["v"] + 0, same=False),
        "broken": lambda _: System("broken", fail, survived=(Exception,)),
        "missing": missing,
    }
    monkeypatch.setattr("maskdsl.runtime.benchmark.bench.PEERS", peers)
    inputs = case.inputs()
    asked = probe(attention, case, inputs)
    seen: list[str] = []
    entries = list(
        compare(attention, case, inputs, Bench(Counting(), CEILINGS, Effort(1, 3)), tuple(peers), asked, seen.append)
    )
    rows = {entry.row.system: entry.row for entry in entries}
    assert seen == ["maskdsl", *peers] == list(rows)
    assert {name for name, row in rows.items() if not row.note} == {"maskdsl", "good", "unlike"}
    assert rows["other"].note == "'other' computes something else here: its output differs by 1.0e+00."
    assert rows["broken"].note == "RuntimeError: broken"
    assert rows["missing"].note == "'missing' is missing."
    assert rows["good"].forward_share is not None
    assert rows["unlike"].forward is not None
    assert rows["unlike"].forward_share is None
    exact = asked.exact()
    found = {entry.row.system: relative(entry.found, exact) for entry in entries if entry.found}
    assert set(found) == {"maskdsl", "good"}
    assert max(found["good"].values()) < 1e-5


ROWS = [
    Row("maskdsl", 64, 1.234, 0.5, 0.01, errors={"o": 1e-3, "d_q": 2e-3, "d_k": 4e-3}),
    Row("fla", 64, note="'fla' is missing."),
    Row("fla", 128, note="'fla' is missing."),
]


def test_a_table_leaves_out_columns_for_nothing() -> None:
    headers = [str(column.header) for column in table("title", ROWS).columns]
    assert headers == ["T", "system", "fwd\nms", "of\nroof", "fwd+bwd\nms", "error\nof o", "worst\ngradient"]
    assert ROWS[0].worst_gradient == 4e-3


def test_notes_are_said_once() -> None:
    assert notes(ROWS) == ["fla at T = 64, 128: 'fla' is missing."]


def test_csv_holds_every_number() -> None:
    first, second, _ = csv.DictReader(io.StringIO(to_csv(ROWS)))
    assert (first["system"], float(first["forward"]), float(first["error_d_k"])) == ("maskdsl", 1.234, 4e-3)
    assert (second["forward"], second["note"]) == ("", "'fla' is missing.")


def test_markdown_is_a_table() -> None:
    assert markdown(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"


def test_a_picture_is_drawn_where_something_is_missing(tmp_path: Path) -> None:
    draw("title", ROWS, tmp_path / "times.png")
    assert (tmp_path / "times.png").read_bytes().startswith(b"\x89PNG")


def test_fresh_caches_are_empty_and_leave_the_users_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKDSL_CACHE", "mine")
    monkeypatch.delenv("TRITON_CACHE_DIR", raising=False)
    with fresh_caches():
        folders = {Path(os.environ[name]) for name in CACHES}
        assert len(folders) == 2
        assert not any(folder.exists() for folder in folders)
    assert os.environ["MASKDSL_CACHE"] == "mine"
    assert "TRITON_CACHE_DIR" not in os.environ
