"""Where the sequences of a call lie: tokens of batch rows, positions in sequences, slots of laid-out programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Slot:
    """One chunk of a sequence: its tokens have positions `start` to `end` - 1, and row 0 stands for position `origin`.

    `token` is where the first of them lies in its batch row.
    """

    sequence: int
    origin: int
    start: int
    end: int
    token: int
    first: bool
    last: bool

    def rows(self) -> Iterator[tuple[int, int]]:
        """The rows that hold tokens, and where these lie in the batch row."""
        for place, position in enumerate(range(self.start, self.end)):
            yield position - self.origin, self.token + place


@dataclass(frozen=True)
class Sequences:
    """Sequence s of batch row b holds the tokens bounds[b][s] to bounds[b][s + 1] - 1, from positions[b][s] on."""

    bounds: tuple[tuple[int, ...], ...]
    positions: tuple[tuple[int, ...], ...]

    def after(self, row: int, sequence: int) -> int:
        """The position after the last token of a sequence."""
        begin, end = self.bounds[row][sequence : sequence + 2]
        return self.positions[row][sequence] + end - begin

    def slots(self, row: int, size: int) -> list[Slot]:
        """The slots of a batch row that hold tokens, in order."""
        return [slot for s in range(len(self.positions[row])) for slot in self._of(row, s, size)]

    def _of(self, row: int, sequence: int, size: int) -> Iterator[Slot]:
        token, stop = self.bounds[row][sequence], self.after(row, sequence)
        begin = start = self.positions[row][sequence]
        while start < stop:
            origin = start // size * size
            end = min(origin + size, stop)
            yield Slot(sequence, origin, start, end, token + start - begin, start == begin, end == stop)
            start = end
