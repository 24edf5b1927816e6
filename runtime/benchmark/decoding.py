"""Steps of one token timed over positions and batches, against the time to move what they touch."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from maskdsl.runtime.arguments import needed_levels
from maskdsl.runtime.benchmark.bench import ALIKE, OWN, Bench
from maskdsl.runtime.benchmark.decoder import Decoder, captured
from maskdsl.runtime.benchmark.decoding_peers import PEERS
from maskdsl.runtime.benchmark.measure import Effort, sentence
from maskdsl.runtime.benchmark.meter import Work
from maskdsl.runtime.benchmark.peers import Unfit
from maskdsl.runtime.benchmark.problem import Problem
from maskdsl.runtime.benchmark.task import Task
from maskdsl.runtime.benchmark.traffic import step_bytes
from maskdsl.runtime.compiled import Attention
from maskdsl.runtime.state import state_for

SAME = ("fla",)
"""The peers that compute the step of the spec."""


@dataclass(frozen=True)
class StepRow:
    """What was measured of one step; None where it was not, for a reason that `note` gives or for lack of meaning.

    `position` tokens come before it. `step` and `graph`, the same replayed from a CUDA graph, are microseconds on the
    device from cold caches, `share` is the least possible part of the shorter one, `host` the microseconds until a call
    returns, `megabytes` what the step must move.
    """

    system: str
    batch: int
    position: int
    step: float | None = None
    graph: float | None = None
    share: float | None = None
    host: float | None = None
    megabytes: float | None = None
    note: str = ""

    @property
    def best(self) -> float | None:
        """The shorter of both times."""
        return min((time for time in (self.step, self.graph) if time is not None), default=None)


@dataclass(frozen=True, kw_only=True)
class Decoding(Task):
    """What to measure: a step for each of the batches and positions."""

    positions: tuple[int, ...]
    batches: tuple[int, ...]

    @property
    def sizes(self) -> str:
        """All that the steps share, as a title."""
        return f"{super().sizes}, state in fp32"

    @property
    def count(self) -> int:
        """How many rows there will be."""
        return len(self.batches) * len(self.positions) * (1 + len(self.peers))

    def rows(self, attention: Attention, bench: Bench, started: Callable[[str], None]) -> Iterator[StepRow]:
        """A row for each batch, position and system; `started` is told what comes next."""
        for batch in self.batches:
            for position in self.positions:
                problem = self._problem(attention, batch, position)
                for name in (OWN, *self.peers):
                    started(f"{name}, B = {batch}, position {position}")
                    yield _row(name, attention, problem, position, bench)

    def _problem(self, attention: Attention, batch: int, position: int) -> Problem:
        """A token, with the levels that the state after it needs."""
        made = self.problem(attention.spec, batch, 1)
        levels = max(1, needed_levels(attention.spec, position + 2))
        return replace(made, shape=replace(made.shape, L=levels))


class Own:
    """A step of a spec on a float32 state that holds anything."""

    def __init__(self, attention: Attention, problem: Problem, position: int) -> None:
        self.attention, self.position = attention, position
        self.inputs = problem.inputs()
        self.state = state_for(attention.spec, vars(problem.shape), problem.device, torch.float32)
        for _, _, x in self.state.buffers():
            x.uniform_(-1, 0)
        self.reset()
        output = torch.empty(problem.output, dtype=problem.dtype, device="meta")
        self.moved = step_bytes(self.state, position, self.inputs, output)

    def reset(self) -> None:
        """Put every sequence back to the position."""
        self.state.positions.fill_(self.position)
        self.state.furthest = self.position

    def decoder(self) -> Decoder:
        """The step, again and again at the same position."""
        return Decoder(lambda: self.attention.step(self.state, **self.inputs), self.moved, self.reset)


def _row(name: str, attention: Attention, problem: Problem, position: int, bench: Bench) -> StepRow:
    row = StepRow(name, problem.shape.B, position)
    try:
        own = Own(attention, problem, position)
        if name == OWN:
            return _measured(row, own.decoder(), bench)
        peer = PEERS[name](problem, position, own.inputs, own.state)
        if name in SAME:
            _check_alike(name, peer, own.decoder())
        return _measured(row, peer, bench)
    except Unfit as reason:
        return replace(row, note=str(reason))
    except Exception as error:
        if name == OWN and not isinstance(error, torch.OutOfMemoryError):
            raise
        return replace(row, note=sentence(error))


def _check_alike(name: str, peer: Decoder, own: Decoder) -> None:
    theirs, ours = peer.step().float(), own.step().float()
    difference = float((theirs - ours).norm() / ours.norm())
    if not difference <= ALIKE:
        raise Unfit(f"'{name}' computes something else here: its output differs by {difference:.1e}.")


def _measured(row: StepRow, decoder: Decoder, bench: Bench) -> StepRow:
    meter = bench.meter
    step = _microseconds(meter.milliseconds, decoder.step, decoder, bench.effort)
    host = _microseconds(meter.host_milliseconds, decoder.step, decoder, bench.effort)
    graph = None
    if host is not None:  # work that outlasts its call is a GPU's
        graph = _microseconds(meter.milliseconds, captured(decoder), decoder, bench.effort)
    timed = replace(row, step=step, graph=graph, host=host, megabytes=decoder.moved / 1e6)
    least = 1e6 * decoder.moved / bench.ceilings.bandwidth
    return replace(timed, share=least / timed.best) if timed.best else timed


def _microseconds(
    measure: Callable[[Work], float | None], work: Work, decoder: Decoder, effort: Effort
) -> float | None:
    """The median over passes that all stand at the same position."""
    found = []
    for turn in range(effort.warmup + effort.repeats):
        decoder.reset()
        time = measure(work)
        if time is not None and turn >= effort.warmup:
            found.append(time)
    return 1000 * statistics.median(found) if found else None
