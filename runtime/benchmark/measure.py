"""One system on one problem: its times, its memory, its host time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from maskdsl.runtime.benchmark.meter import Meter, Work, median
from maskdsl.runtime.benchmark.problem import Problem, Tensors
from maskdsl.runtime.benchmark.roofline import Floor

SETS = 2
"""Sets of inputs that timed passes take in turn."""


@dataclass(frozen=True)
class System:
    """Something that computes an attention.

    `run` maps operands to the output [B, T, H, V]; `prepare` makes the operands from the inputs of the spec, which is
    not timed. `same` says that it computes what the spec does. An exception among `survived` becomes a note in the
    row; any other is a fault and ends the benchmark.
    """

    name: str
    run: Callable[[Tensors], Tensor]
    prepare: Callable[[Tensors], Tensors] = dict
    same: bool = True
    survived: tuple[type[Exception], ...] = (torch.OutOfMemoryError,)


@dataclass(frozen=True)
class Effort:
    """Untimed and timed passes behind each median."""

    warmup: int
    repeats: int


@dataclass(frozen=True)
class Row:
    """What was measured; None where it was not, for a reason that `note` gives or because it has no meaning.

    `forward` (without gradients) and `training` (forward and backward) are milliseconds, the shares those of the least
    possible time; `host` is the milliseconds until a forward call returns, `first` the seconds of the first forward and
    backward pass, `peak` the megabytes above the inputs. `errors` are relative, of `o` and of each gradient.
    """

    system: str
    length: int
    forward: float | None = None
    forward_share: float | None = None
    training: float | None = None
    training_share: float | None = None
    peak: float | None = None
    host: float | None = None
    first: float | None = None
    errors: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def worst_gradient(self) -> float | None:
        """The largest error of a gradient."""
        return max((error for name, error in self.errors.items() if name != "o"), default=None)


def measure(system: System, problem: Problem, inputs: Tensors, meter: Meter, effort: Effort, floor: Floor) -> Row:
    """A row for `system`; where a pass raises what the system survives, it says so and holds what came before."""
    row = Row(system.name, problem.shape.T)
    try:
        operands = [_operands(system, each) for each in problem.rotations(inputs, SETS)]
        gradient = torch.randn(problem.output, device=problem.device).to(problem.dtype)
        forward = [partial(_forward, system, each) for each in operands]
        row = _timed_forward(row, forward, meter, effort)
        training = [partial(gradients, system, each, gradient) for each in operands]
        row = _timed_training(row, training, meter, effort)
    except system.survived as error:
        row = replace(row, note=sentence(error))
    return _with_shares(row, floor) if system.same else row


def gradients(system: System, operands: Tensors, gradient: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The output, and the gradients of the operands that have one."""
    output = system.run(operands)
    leaves = {name: x for name, x in operands.items() if x.requires_grad}
    found = torch.autograd.grad(output, list(leaves.values()), gradient, allow_unused=True)
    return output, {name: x for name, x in zip(leaves, found, strict=True) if x is not None}


def sentence(error: BaseException) -> str:
    """An exception on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _timed_forward(row: Row, works: Sequence[Work], meter: Meter, effort: Effort) -> Row:
    first = meter.seconds(works[0])
    times = median(meter.milliseconds, works, effort.warmup, effort.repeats)
    hosts = [meter.host_milliseconds(works[0]) for _ in range(effort.repeats)]
    found = sorted(each for each in hosts if each is not None)
    return replace(row, first=first, forward=times, host=found[len(found) // 2] if found else None)


def _timed_training(row: Row, works: Sequence[Work], meter: Meter, effort: Effort) -> Row:
    first = meter.seconds(works[0]) + (row.first or 0)
    peak = meter.peak_megabytes(works[0])
    times = median(meter.milliseconds, works, effort.warmup, effort.repeats)
    return replace(row, first=first, peak=peak, training=times)


def _with_shares(row: Row, floor: Floor) -> Row:
    forward = floor.forward / row.forward if row.forward else None
    training = floor.training / row.training if row.training else None
    return replace(row, forward_share=forward, training_share=training)


def _forward(system: System, operands: Tensors) -> Tensor:
    with torch.no_grad():
        return system.run(operands)


def _operands(system: System, inputs: Tensors) -> Tensors:
    with torch.no_grad():
        return {name: x.detach().requires_grad_() for name, x in system.prepare(inputs).items()}
