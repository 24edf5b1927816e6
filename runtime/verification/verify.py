"""Verification of a spec on random calls, shrunk to the smallest one that fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

from maskdsl.language.printer import to_text
from maskdsl.runtime.compiled import Attention, Backend
from maskdsl.runtime.sampling import parts, regimes, shapes
from maskdsl.runtime.verification.compare import WAYS, Case, Comparison, Mismatch, Skipped, compare, script
from maskdsl.spec import Spec


@dataclass(frozen=True)
class Check:
    """All comparisons of one kind: how many calls had it, and the worst of them against what was allowed there.

    `way` says how the call was computed, "at once", in "pieces", "packed" or in "steps". `what` names the two sides,
    `of` the output `o`, the gradient `d_<input>`, or the buffer `<memory>.<buffer>` of the final state.
    """

    way: str
    what: str
    of: str
    calls: int
    worst: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether the worst one is within bounds."""
        return self.worst <= self.allowed


@dataclass(frozen=True)
class Report:
    """The outcome of a verification; `counterexample` is a runnable script where something failed.

    `skipped` are the ways for which the backend has no kernels.
    """

    checks: tuple[Check, ...]
    counterexample: str | None
    skipped: tuple[Skipped, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every comparison held."""
        return self.counterexample is None


def verify(
    spec: Spec,
    examples: int = 50,
    progress: Callable[[], None] = lambda: None,
    *,
    device: str = "cpu",
    backend: Backend = "auto",
    random_seed: int = 0,
) -> Report:
    """Compare the compiled spec, output and every gradient, with both oracles on random calls.

    Each call is also computed in pieces that hand their states on, as packed sequences, and in steps after a part of
    each, final states and gradients through states included. Shapes, values, gate regimes and cuts are random; the same
    seed draws the same calls. The compiled programs run on `device` by `backend`, within 1e-10 in float64 and 1e-5 in
    float32 (see `reference`). `progress` is called once a call.
    """
    attention = Attention(spec, backend)
    tally = _Tally()
    failing: list[Case] = []
    ways = list(WAYS)
    quiet = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=False,
        report_multiple_bugs=False,
        verbosity=Verbosity.quiet,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )

    @seed(random_seed)
    @quiet
    @given(case=_cases(spec))
    def holds(case: Case) -> None:
        for found in compare(attention, case, device, ways):
            tally.add(found)
            if isinstance(found, Comparison) and not found.passed:
                failing.append(case)
                ways[:] = [found.way]  # what is shrunk stays the same failure, and the rest need not be computed
                raise Mismatch(found)
        progress()

    try:
        holds()
    except Mismatch:
        # the last failing call is the one that hypothesis shrank to
        return Report(tally.checks(), script(attention, to_text(spec.syntax), failing[-1], device), tally.skipped())
    return Report(tally.checks(), None, tally.skipped())


@st.composite
def _cases(draw: st.DrawFn, spec: Spec) -> Case:
    shape = draw(shapes(spec))
    return Case(shape, draw(regimes()), draw(st.integers(0, 2**31 - 1)), draw(parts(shape.T)))


class _Tally:
    def __init__(self) -> None:
        self._worst: dict[tuple[str, str, str], Comparison] = {}
        self._calls: Counter[tuple[str, str, str]] = Counter()
        self._skipped: dict[str, Skipped] = {}

    def add(self, found: Comparison | Skipped) -> None:
        """Count one comparison of a call, or one that could not be made."""
        if isinstance(found, Skipped):
            self._skipped.setdefault(found.way, found)
            return
        kind = found.way, found.what, found.of
        worst = self._worst.setdefault(kind, found)
        if found.error / found.allowed > worst.error / worst.allowed:
            self._worst[kind] = found
        self._calls[kind] += 1

    def checks(self) -> tuple[Check, ...]:
        """One check for every kind of comparison."""
        return tuple(Check(*kind, self._calls[kind], c.error, c.allowed) for kind, c in self._worst.items())

    def skipped(self) -> tuple[Skipped, ...]:
        """The ways that some call skipped, each with the first reason."""
        return tuple(self._skipped.values())
