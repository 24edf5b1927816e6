"""A spec and its peers on one problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from maskdsl.runtime.benchmark.errors import Probe
from maskdsl.runtime.benchmark.measure import Effort, Row, System, measure, sentence
from maskdsl.runtime.benchmark.meter import Meter, meter
from maskdsl.runtime.benchmark.peers import PEERS, Unfit
from maskdsl.runtime.benchmark.problem import Problem, Tensors
from maskdsl.runtime.benchmark.roofline import Ceilings, Floor, ceilings, floor
from maskdsl.runtime.compiled import Attention

OWN = "maskdsl"

ALIKE = 0.1
"""Relative difference of two outputs up to which they may be the same recurrence in low precision."""


@dataclass(frozen=True)
class Bench:
    """What all measurements of a run share."""

    meter: Meter
    ceilings: Ceilings
    effort: Effort

    def row(self, system: System, problem: Problem, inputs: Tensors) -> Row:
        """What is measured of a system on these inputs."""
        return measure(system, problem, inputs, self.meter, self.effort, floor(problem, inputs, self.ceilings))


@dataclass(frozen=True)
class Entry:
    """A row, and what the system found for the probe: `o` and gradients; None where it was not asked or failed."""

    row: Row
    found: dict[str, Tensor] | None = None


def open_bench(device: str, dtype: torch.dtype, effort: Effort) -> Bench:
    """Measures the ceilings of the device."""
    measured = meter(device)
    return Bench(measured, ceilings(measured, dtype, device), effort)


def compare(
    attention: Attention,
    problem: Problem,
    inputs: Tensors,
    bench: Bench,
    peers: Sequence[str] = (),
    probe: Probe | None = None,
    started: Callable[[str], None] = lambda system: None,
) -> Iterator[Entry]:
    """An entry for `attention`, then one for each of the peers (keys of PEERS) on the same inputs.

    A peer that is missing, does not fit, fails or computes something else gets a row with a note instead.
    """
    least = floor(problem, inputs, bench.ceilings)
    own = System(OWN, partial(_call, attention))
    started(OWN)
    yield _entry(own, problem, inputs, bench, least, probe)
    for name in peers:
        started(name)
        try:
            peer = PEERS[name](problem)
            entry = _entry(peer, problem, inputs, bench, least, probe)
            if peer.same and entry.row.forward is not None:
                _check_alike(peer, own, inputs)
        except Unfit as reason:
            entry = Entry(Row(name, problem.shape.T, note=str(reason)))
        yield entry


def _call(attention: Attention, operands: Mapping[str, Any]) -> Tensor:
    return attention(**operands)


def _entry(system: System, problem: Problem, inputs: Tensors, bench: Bench, least: Floor, probe: Probe | None) -> Entry:
    row = measure(system, problem, inputs, bench.meter, bench.effort, least)
    if probe is None or row.note or not system.same:
        return Entry(row)
    try:
        return Entry(row, probe.found(system, inputs))
    except system.survived as error:
        return Entry(replace(row, note=sentence(error)))


def _check_alike(peer: System, own: System, inputs: Tensors) -> None:
    """Raises `Unfit` where a peer that should compute the same does not."""
    with torch.no_grad():
        theirs, ours = peer.run(peer.prepare(inputs)).float(), own.run(inputs).float()
    difference = float((theirs - ours).norm() / ours.norm())
    if not difference <= ALIKE:
        raise Unfit(f"'{peer.name}' computes something else here: its output differs by {difference:.1e}.")
