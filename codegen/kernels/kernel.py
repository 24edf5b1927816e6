"""A kernel while it is written: its parameters with what the host gives for them, and its lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_WORDS = """
tl triton tiles walks hierarchy torch torch_ops math at forward backward B T H K V L N b h h0 n c k_ v_ l_ vt kt pid
part unit start row rows p end width wide narrow high low depth reads number count first last late lag rank weight
weighed decay log total block state step place own handed earlier found product column share shares some others
side even other sibling child pulled carried written range strip strips read operand above m_ r_ pos slot
reach held kept left carried_log first_slot origin token tokens bounds places slots S
position positions past shift whole rest M level own met reads
energies energy given seen chain held_reads behind back end_level
segments segment crossings tile columns length inner matrix
"""

RESERVED = frozenset(_WORDS.split())
"""Names that generated text uses for itself."""


SIZES = ("B", "T", "H", "L", "N")


class Kernel:
    """One `triton.jit` function."""

    def __init__(self, name: str, about: str, packed: bool = False, laid: bool = False, chunk: int = 0) -> None:
        self.name, self.about = name, about
        self.packed, self.laid, self.chunk = packed, laid, chunk
        self.parameters: dict[str, str] = {}
        self.varying: set[str] = set()
        self.opening: list[str] = []
        self.tops: dict[str, str] = {}
        self.lines: list[str] = []
        self.programs = ""
        self.warps, self.stages = 4, 2
        self.registers: int | None = None
        """The most registers a thread, where more programs at a time are worth more than registers."""
        self._depth = 1
        self._taken: set[str] = set()

    def parameter(self, name: str, given: str, *, varying: bool = False) -> str:
        """A parameter, with the expression that the host gives for it.

        A kernel is not compiled anew where a `varying` one changes its divisors.
        """
        self.parameters.setdefault(name, given)
        if varying:
            self.varying.add(name)
        return name

    def pointer(self, name: str) -> str:
        """The parameter for a tensor of the host's."""
        return self.parameter(f"{name}_ptr", name)

    def size(self, name: str) -> str:
        """A size of the call: B, T, H or L, or N, the number of chunks; T and N are those of a sequence."""
        if self.packed and name in ("T", "N"):
            return name
        return self.parameter(name, name if name == "N" else f"at.{name}")

    def whole_size(self, name: str) -> str:
        """A size of the call, whatever sequences a batch row holds."""
        return self.parameter("tokens", "at.T") if self.packed and name == "T" else self.size(name)

    def absolute(self, chunk: str) -> str:
        """The number of a chunk in its sequence, for which blocks are aligned, of one among those of the call."""
        return f"({chunk} + past)" if self.laid else chunk

    def line(self, text: str) -> None:
        """Append a line at the current depth."""
        self.lines.append("    " * self._depth + text)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """A block under the line `head`."""
        self.line(head)
        self._depth += 1
        yield
        self._depth -= 1

    def fresh(self, name: str) -> str:
        """A local name not used yet."""
        found, count = name, 1
        while found in self._taken:
            count += 1
            found = f"{name}_v{count}"
        self._taken.add(found)
        return found

    def text(self) -> str:
        """The function."""
        fixed = [name for name in self.parameters if name in SIZES or name in self.varying]
        tops = [f"    {line}" for line in self.tops.values()]
        head = f"@triton.jit(do_not_specialize={fixed!r})" if fixed else "@triton.jit"
        opening = [f"    {line}" for line in self.opening]
        return "\n".join(
            [
                head,
                f"def {self.name}({', '.join(self.parameters)}):",
                f'    """{self.about}"""',
                *opening,
                *tops,
                *self.lines,
            ]
        )

    def launch(self) -> str:
        """The host's line that starts it."""
        given = ", ".join(self.parameters.values())
        limits = f", registers={self.registers}" if self.registers else ""
        return f"at.launch({self.name}, {self.programs}, {given}, warps={self.warps}, stages={self.stages}{limits})"
