"""Benchmarks of steps: the bytes that a step must move, and what stands beside it."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from agreement import compiled
from torch import Tensor

import maskdsl
from maskdsl.mask.levels import Admissibility, level
from maskdsl.runtime.benchmark import Bench, Effort
from maskdsl.runtime.benchmark.decoder import Decoder
from maskdsl.runtime.benchmark.decoding import Decoding, StepRow
from maskdsl.runtime.benchmark.decoding_peers import PEERS, RECURRENT
from maskdsl.runtime.benchmark.meter import CpuMeter
from maskdsl.runtime.benchmark.operators import FLA
from maskdsl.runtime.benchmark.problem import Problem, Tensors
from maskdsl.runtime.benchmark.report import notes, step_table, to_csv
from maskdsl.runtime.benchmark.roofline import Ceilings
from maskdsl.runtime.benchmark.traffic import step_bytes
from maskdsl.runtime.compiled import Attention
from maskdsl.runtime.state import State, state_for

BENCH = Bench(CpuMeter(), Ceilings(1e9, 1e12), Effort(1, 3))
SIZES = {"B": 2, "H": 3, "K": 5, "V": 7, "L": 9}


def decoding(*positions: int, peers: tuple[str, ...] = (), batches: tuple[int, ...] = (2,)) -> Decoding:
    return Decoding(
        heads=3,
        key=5,
        value=7,
        key_heads=1,
        dtype=torch.float32,
        device="cpu",
        peers=peers,
        effort=BENCH.effort,
        positions=positions,
        batches=batches,
    )


def rows(attention: Attention, task: Decoding) -> list[StepRow]:
    return list(task.rows(attention, BENCH, lambda what: None))


def moved(attention: Attention, position: int) -> int:
    state = state_for(attention.spec, SIZES, "cpu", torch.float32)
    return step_bytes(state, position, {}, torch.empty(0)) - 2 * state.positions.nbytes


def tokens_by_level(position: int, base: int, admissibility: Admissibility) -> dict[int, set[int]]:
    found: dict[int, set[int]] = defaultdict(set)
    for s in range(position):
        found[level(position, s, base, admissibility)].add(s)
    return found


@pytest.mark.parametrize(("base", "admissibility"), [(2, "weak"), (3, "weak"), (2, "strong")])
@pytest.mark.parametrize("path", ["causal", "semiseparable(g)", "delta(l2norm(k), 1) @ semiseparable(g)"])
def test_levels_that_a_step_touches(path: str, base: int, admissibility: Admissibility) -> None:
    mask = f'({path}) * fenwick(lam, base={base}, admissibility="{admissibility}")'
    declared = ["g : token <= 0"] if "g" in path else []
    attention = compiled("q, k : key", "v : value", *declared, "lam : level", f"return attend(q, k, v, {mask})")
    row, logs = 4 * 2 * 3 * 5 * 7, 2 * 8 * 2 * 3 * 8 if path == "semiseparable(g)" else 0
    for position in range(70):
        before, after = (tokens_by_level(p, base, admissibility) for p in (position, position + 1))
        written = after if "delta" in path else [j for j in after if after[j] != before.get(j)]
        assert moved(attention, position) == row * (len(before) + len(written)) + logs, position


@pytest.mark.parametrize("path", ["causal", "semiseparable(g)", "semiseparable(g) @ delta(l2norm(k), 1)"])
def test_tokens_that_a_window_touches(path: str) -> None:
    declared = ["g : token <= 0"] if "g" in path else []
    attention = compiled("q, k : key", "v : value", *declared, f"return attend(q, k, v, ({path}) * window(10))")
    for position in (0, 4, 9, 100):
        seen = min(position, 9)
        keys = 2 * seen if "delta" in path else seen + 1
        logs = 8 * 2 * seen if path == "semiseparable(g)" else 0
        assert moved(attention, position) == 6 * (4 * 5 * keys + 4 * 7 * (seen + 1) + logs)


def test_a_state_without_levels_is_read_and_written_and_so_are_inputs_and_outputs() -> None:
    attention = maskdsl.compile("retention")
    assert moved(attention, 50) == 2 * 4 * 2 * 3 * 5 * 7
    (row,) = rows(attention, decoding(50))
    inputs = 4 * (2 * (5 + 5 + 3 * 7) + 3)
    assert row.megabytes == pytest.approx((moved(attention, 50) + inputs + 4 * 2 * 3 * 7 + 32) / 1e6)


def test_every_pass_stands_at_the_same_position(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    step = Attention.step

    def watched(self: Attention, state: State, /, **inputs: Tensor) -> Tensor:
        seen.extend(state.positions.tolist())
        return step(self, state, **inputs)

    monkeypatch.setattr(Attention, "step", watched)
    rows(maskdsl.compile("log_linear_mamba2"), decoding(6))
    assert seen == [6] * len(seen)
    assert len(seen) == 2 * 4  # sequences, passes


def test_rows_for_every_batch_position_and_system() -> None:
    found = rows(maskdsl.compile("log_linear_mamba2"), decoding(0, 7, 8, peers=("softmax", "fla"), batches=(1, 2)))
    assert [(row.batch, row.position) for row in found[::3]] == [(b, p) for b in (1, 2) for p in (0, 7, 8)]
    assert [row.system for row in found[:3]] == ["maskdsl", "softmax", "fla"]
    assert all(row.step and row.share and row.best == row.step for row in found if row.system != "fla")
    full, one = (row.megabytes for row in found[3:7:3])
    assert full is not None
    assert one is not None
    assert full > one
    shown = step_table("title", found)
    assert [column.header for column in shown.columns] == [
        "B",
        "position",
        "system",
        "step\nus",
        "of\nroof",
        "moved\nMB",
    ]
    assert notes(found) == [
        "fla at position 0 (B = 1), 7 (B = 1), 8 (B = 1), 0 (B = 2), 7 (B = 2), 8 (B = 2): "
        "'fla' has no recurrent kernel for 'log_linear_mamba2'."
    ]
    assert to_csv(found).splitlines()[0] == "system,batch,position,step,graph,share,host,megabytes,note"


def test_a_peer_that_computes_something_else_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(problem: Problem, position: int, inputs: Tensors, state: State) -> Decoder:
        return Decoder(lambda: torch.ones(problem.output), 1)

    def same(problem: Problem, position: int, inputs: Tensors, state: State) -> Decoder:
        attention, own = maskdsl.compile("retention"), state.clone()

        def step() -> Tensor:
            return attention.step(own.clone(), **inputs)

        return Decoder(step, 1)

    monkeypatch.setitem(PEERS, "fla", other)
    (_, row) = rows(maskdsl.compile("retention"), decoding(3, peers=("fla",)))
    assert "'fla' computes something else here: its output differs by" in row.note
    assert row.step is None
    monkeypatch.setitem(PEERS, "fla", same)
    (_, row) = rows(maskdsl.compile("retention"), decoding(3, peers=("fla",)))
    assert (row.note, row.step is None) == ("", False)


def test_a_peer_that_fails_gets_a_note_and_a_spec_that_fails_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> Decoder:
        raise RuntimeError("no such GPU")

    monkeypatch.setitem(PEERS, "softmax", broken)
    (_, row) = rows(maskdsl.compile("retention"), decoding(3, peers=("softmax",)))
    assert row.note == "RuntimeError: no such GPU"
    monkeypatch.setattr(Attention, "step", broken)
    with pytest.raises(RuntimeError, match="no such GPU"):
        rows(maskdsl.compile("retention"), decoding(3))


def test_recurrent_kernels_take_what_the_chunkwise_ones_do() -> None:
    for name, operator in RECURRENT.items():
        spec = maskdsl.compile(name).spec
        sizes = {"batch": 1, "length": 1, "heads": 2, "key": 4, "value": 4, "key_heads": 2}
        inputs = Problem.of(spec, dtype=torch.float32, device="cpu", **sizes).inputs()
        operands, chunkwise = operator.prepare(inputs), FLA[name].prepare(inputs)
        assert operator.function.startswith("fused_recurrent_")
        assert {each.replace("gk", "g") for each in operands} == set(chunkwise)
