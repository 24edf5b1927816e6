"""The tokens that windows keep of sequences: rows of [S, H, R, X], the oldest first, that chunks find by position."""

from __future__ import annotations

from dataclasses import dataclass

from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.tile import Place


@dataclass(frozen=True)
class Rows:
    """The rows for the positions of one chunk: position c has row `first` + c where it is `inside`, [C]."""

    first: str
    inside: str

    def after(self, emit: Evaluator) -> Rows:
        """The rows in which the same tokens are at the end of a sequence: T older."""
        return Rows(f"({self.first} - T)", f"{self.inside} & ({self.first} + {emit.lane('C')} >= T)")


def coming_in(emit: Evaluator, chunk: str, width: int) -> Rows:
    """The rows of what a sequence begins with: tokens before its first one, in chunks 0 and before."""
    size = emit.tiling.chunk
    first = emit.assign("held", f"tl.cast({chunk}, tl.int64) * {size} - shift + {width - 1}")
    lane = emit.lane("C")
    bounds = [f"({first} + {lane} >= 0)", f"({first} + {lane} < {width - 1})"]
    if emit.tiling.extent("C") != size:
        bounds.append(f"({lane} < {size})")
    return Rows(first, emit.assign("recent", " & ".join(bounds)))


def going_out(emit: Evaluator, place: Place, width: int) -> Rows:
    """The rows of what a sequence ends with, for its own tokens."""
    emit.prepare(place)
    first = emit.assign("held", f"start_{place.chunk} - T + {width - 1}")
    return Rows(first, emit.assign("recent", f"{place.inside} & ({first} + {emit.lane('C')} >= 0)"))


def address(emit: Evaluator, name: str, letter: str, rows: Rows) -> str:
    """The addresses of rows of a tensor of keys (the letter K) or values (V) of sequence b."""
    steps = {x: emit.kernel.parameter(f"{name}_{x}", f"{name}.stride({dim})") for dim, x in enumerate("bhr")}
    begin = f"b * {steps['b']} + {emit.head} * {steps['h']} + {rows.first} * {steps['r']}"
    inner = emit.offsets(((0, "C"), (1, letter)), {0: f"{emit.lane('C')} * {steps['r']}", 1: emit.lane(letter)})
    return f"{emit.kernel.pointer(name)} + ({begin}) + {inner}"


def load(emit: Evaluator, name: str, letter: str, rows: Rows) -> str:
    """Rows of such a tensor, zeros elsewhere."""
    return f"tl.load({address(emit, name, letter, rows)}, mask={_mask(emit, letter, rows)}, other=0.0).to(tl.float32)"


def store(emit: Evaluator, name: str, letter: str, rows: Rows, tile: str) -> None:
    """Write rows of such a tensor."""
    emit.kernel.line(f"tl.store({address(emit, name, letter, rows)}, {tile}, mask={_mask(emit, letter, rows)})")


def store_keys(emit: Evaluator, name: str, rows: Rows, tile: str) -> None:
    """Write rows of keys, which all programs for columns of V find the same."""
    if emit.tiling.parts == 1:
        store(emit, name, "K", rows, tile)
        return
    with emit.kernel.block("if vt == 0:"):
        store(emit, name, "K", rows, tile)


def _mask(emit: Evaluator, letter: str, rows: Rows) -> str:
    lanes = emit.mask(letter, Place("n"))
    return f"({rows.inside})[:, None]" + (f" & {lanes}[None, :]" if lanes else "")


class Between:
    """The decays of several chunks, added up: `log`, and the `decay` beside keys [C, K]."""

    def __init__(self, emit: Evaluator, operator: str) -> None:
        self.emit, self.operator = emit, operator
        self.diagonal = emit.types[operator][-2] == "K"
        self.nothing = emit.zeros(((0, "K"),)) if self.diagonal else "tl.zeros((), tl.float32)"
        self.log = emit.kernel.fresh("log")

    @property
    def decay(self) -> str:
        """What multiplies keys."""
        return f"tiles.exp({self.log})[None, :]" if self.diagonal else f"tiles.exp({self.log})"

    def of(self, start: str, stop: str) -> str:
        """Write the sum over the chunks from `start` to `stop` - 1, and return the decay."""
        line, chunk = self.emit.kernel.line, self.emit.kernel.fresh("some")
        line(f"{self.log} = {self.nothing}")
        with self.emit.kernel.block(f"for {chunk} in range({start}, {stop}):"):
            line(f"{self.log} += {self.emit.value(self.operator, Place(chunk)).name}")
        return self.decay

    def energy(self, product: str) -> str:
        """The gradient of a log, of what it decays [C, K] times the gradient of that."""
        return f"tl.sum({product}, 0)" if self.diagonal else f"tl.sum(tl.sum({product}, 1), 0)"
