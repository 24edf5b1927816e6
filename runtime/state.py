"""What an attention keeps of the tokens that it has seen, as a value: tensors, and each sequence's position."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from maskdsl.chunk.axes import extent
from maskdsl.codegen.torch_ops.positions import occupied
from maskdsl.diagnostics import CallError
from maskdsl.lowering.memory import LOGS, POSITIONS, STATES, memories
from maskdsl.spec import Spec

DTYPES = (torch.float32, torch.bfloat16, torch.float64)
SHOWN = 8
"""Positions that are written out where a state is printed."""


class State:
    """The memories of a spec for a batch of sequences, each at a position of its own.

    `memories` are tensors by memory and buffer, `state.memories["attend_1_1"]["states"]`, whose shapes and meaning
    `maskdsl.lowering.memory` gives; all but `logs` have the dtype of the state, logs are float64 always. `positions` is
    [B] int64, how many tokens each sequence has seen. `furthest` is at least the largest of them and known without
    asking the device: steps and copies keep it.

    A step by a kernel leaves what it has moved to another level where it was. `held` are the tensors with such
    leftovers in the rows of levels that are empty; `memories` and `buffers()` clear these first.
    """

    def __init__(
        self,
        spec: Spec,
        memories: Mapping[str, Mapping[str, Tensor]],
        positions: Tensor,
        furthest: int | None = None,
        leftovers: bool = False,
    ) -> None:
        self.spec = spec
        self.held = {name: dict(buffers) for name, buffers in memories.items()}
        self.leftovers = leftovers
        self.positions = positions
        self.furthest = int(positions.max()) if furthest is None else furthest

    @property
    def memories(self) -> dict[str, dict[str, Tensor]]:
        """The tensors by memory and buffer."""
        if self.leftovers:
            self._clear()
        return self.held

    @property
    def batch(self) -> int:
        """How many sequences it has."""
        return len(self.positions)

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self.positions.device

    @property
    def dtype(self) -> torch.dtype | None:
        """That of all buffers but logs; None where there are none."""
        return next((x.dtype for name, x in self.named() if not name.endswith(f".{LOGS}")), None)

    @property
    def nbytes(self) -> int:
        """The bytes of all its tensors."""
        return self.positions.nbytes + sum(x.nbytes for _, x in self.named())

    def buffers(self) -> Iterator[tuple[str, str, Tensor]]:
        """Each memory's name, its buffer's name, and the buffer."""
        for memory, buffers in self.memories.items():
            for name, x in buffers.items():
                yield memory, name, x

    def named(self) -> Iterator[tuple[str, Tensor]]:
        """What is `held`, under the names that programs have for it."""
        return ((f"{memory}.{name}", x) for memory, kept in self.held.items() for name, x in kept.items())

    @property
    def layout(self) -> tuple[Any, ...]:
        """All that decides what fits the state and how its steps run, but for its spec and numbers."""
        return self.device, self.positions.shape, *((x.shape, x.dtype) for _, x in self.named())

    def look(self, slots: Tensor | None = None) -> int:
        """The furthest position of all sequences or of some, read from the device; `furthest` is exact afterwards."""
        self.furthest = int(self.positions.max())
        return self.furthest if slots is None else int(self.positions.index_select(0, slots).max())

    def clone(self) -> State:
        """A state of its own with the same numbers."""
        return self._with(Tensor.clone)

    def detach(self) -> State:
        """The same tensors without a past to differentiate."""
        return self._with(Tensor.detach)

    def select(self, indices: Tensor | Sequence[int]) -> State:
        """The sequences at `indices`, in that order and as often as they are named: a state of its own.

        Raises IndexError for a sequence that is not there.
        """
        index = torch.as_tensor(indices, device=self.device, dtype=torch.int64)
        return self._with(lambda x: x.index_select(0, index))

    def put(self, slots: Tensor | Sequence[int], other: State) -> None:
        """The sequences of another state of the same spec in place of those at `slots`, each named once.

        Raises ValueError for the state of another spec, RuntimeError for sizes that differ.
        """
        if other.spec != self.spec:
            raise ValueError(f"The state of '{other.spec.name}' cannot go into one of '{self.spec.name}'.")
        index = torch.as_tensor(slots, device=self.device, dtype=torch.int64)
        with torch.no_grad():
            for memory, kept in self.held.items():
                for name, x in kept.items():
                    x.index_copy_(0, index, other.held[memory][name].to(x))
            self.positions.index_copy_(0, index, other.positions.to(self.positions))
        self.furthest = max(self.furthest, other.furthest)
        self.leftovers |= other.leftovers

    def to(self, *targets: torch.dtype | torch.device | str) -> State:
        """A state of its own in another dtype, float32, bfloat16 or float64, on another device, or both.

        Positions and logs keep their dtype. Raises ValueError for any other dtype.
        """
        dtypes = [target for target in targets if isinstance(target, torch.dtype)]
        devices = [target for target in targets if not isinstance(target, torch.dtype)]
        wrong = [dtype for dtype in dtypes if dtype not in DTYPES]
        if wrong:
            raise ValueError(_wrong_dtype(wrong[0]))

        def changed(name: str, x: Tensor) -> Tensor:
            new = x
            for target in [*devices, *(dtypes if name not in (LOGS, POSITIONS) else ())]:
                new = new.to(target)
            return x.clone() if new is x else new

        held = {m: {name: changed(name, x) for name, x in kept.items()} for m, kept in self.held.items()}
        return State(self.spec, held, changed(POSITIONS, self.positions), self.furthest, self.leftovers)

    def __repr__(self) -> str:
        shown = ", ".join(map(str, self.positions[:SHOWN].tolist())) + (", ..." if self.batch > SHOWN else "")
        kept = [
            f"{memory} ({', '.join(f'{name} {list(x.shape)}' for name, x in buffers.items())})"
            for memory, buffers in self.held.items()
            if buffers
        ]
        dtype = str(self.dtype).removeprefix("torch.")
        return (
            f"<state of '{self.spec.name}' at positions [{shown}]: {', '.join(kept) or 'nothing kept'};"
            f" {dtype + ', ' if kept else ''}{self.device}, {self.nbytes:,} bytes>"
        )

    def _with(self, change: Callable[[Tensor], Tensor]) -> State:
        changed = {memory: {name: change(x) for name, x in kept.items()} for memory, kept in self.held.items()}
        return State(self.spec, changed, change(self.positions), self.furthest, self.leftovers)

    @torch.no_grad()
    def _clear(self) -> None:
        for memory in memories(self.spec):
            if memory.term.hierarchy is not None and STATES in self.held[memory.name]:
                rows = self.held[memory.name][STATES]
                base, admissibility = memory.term.hierarchy.base, memory.term.hierarchy.admissibility
                empty = ~occupied(self.positions, rows.shape[2] + 1, base, admissibility)
                rows.masked_fill_(empty[:, None, :, None, None], 0)


def empty_state(
    spec: Spec,
    batch: int,
    sizes: Mapping[str, int | None],
    device: torch.device | str | None,
    dtype: torch.dtype,
) -> State:
    """A state of zeros at position 0; `sizes` are those of `heads`, `key`, `value` and `levels`, None where not given.

    Raises CallError with every size that is missing, of no use or no size, and for a dtype that states do not have.
    """
    buffers = [(memory.name, buffer) for memory in memories(spec) for buffer in memory.buffers]
    axes = {axis for _, buffer in buffers for axis in buffer.axes}
    problems = [*_size_problems(spec, {"batch": batch, **sizes}, axes)]
    if dtype not in DTYPES:
        problems.append(_wrong_dtype(dtype))
    if problems:
        raise CallError("\n".join(problems))
    known = {"B": batch} | {_AXES[name][0]: size for name, size in sizes.items() if size is not None}
    found: dict[str, dict[str, Tensor]] = {memory.name: {} for memory in memories(spec)}
    for memory, buffer in buffers:
        shape = [extent(axis, known) for axis in buffer.axes]
        wide = torch.float64 if buffer.name == LOGS else dtype
        found[memory][buffer.name] = torch.zeros(shape, device=device, dtype=wide)
    return State(spec, found, torch.zeros(batch, device=device, dtype=torch.int64), furthest=0)


def state_for(spec: Spec, sizes: Mapping[str, int], device: torch.device | str | None, dtype: torch.dtype) -> State:
    """The state of zeros for calls of these dimensions B, H, K, V and L, of which it takes what it needs."""
    axes = {axis for memory in memories(spec) for buffer in memory.buffers for axis in buffer.axes}
    needed = {name: sizes[dimension] if axis in axes else None for name, (dimension, axis, _) in _AXES.items()}
    return empty_state(spec, sizes["B"], needed, device, dtype)


_AXES = {
    "heads": ("H", "H", "the number of value heads"),
    "key": ("K", "K", "the size of a key"),
    "value": ("V", "V", "the size of a value"),
    "levels": ("L", "M", "how many level weights its inputs have"),
}
"""Of each size: its dimension, the axis of buffers that it decides, and what it is."""


def _size_problems(spec: Spec, sizes: Mapping[str, int | None], axes: set[str]) -> Iterator[str]:
    for name, size in sizes.items():
        _, axis, meaning = _AXES.get(name, ("B", "B", "the number of sequences"))
        needed = axis in axes or name == "batch"
        if size is None:
            if needed:
                yield f"A state of '{spec.name}' needs '{name}', {meaning}: pass {name}=."
        elif not needed:
            yield f"A state of '{spec.name}' has nothing that '{name}' decides: leave {name}= out."
        elif isinstance(size, bool) or not isinstance(size, int) or size < 1:
            yield f"'{name}' is {meaning}, a whole number of at least 1, not {size!r}."


def _wrong_dtype(dtype: torch.dtype) -> str:
    names = ", ".join(str(each).removeprefix("torch.") for each in DTYPES)
    return f"A state has one of the dtypes {names}, not {str(dtype).removeprefix('torch.')}."
