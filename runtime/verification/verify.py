"""Verification of a spec on random calls, shrunk to the smallest one that fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

from maskdsl.language.printer import to_text
from maskdsl.runtime.compiled import Attention, Backend
from maskdsl.runtime.sampling import regimes, shapes
from maskdsl.runtime.verification.compare import Case, Comparison, Mismatch, compare, script
from maskdsl.spec import Spec


@dataclass(frozen=True)
class Check:
    """All comparisons of one kind: how many calls had it, and the worst of them against what was allowed there.

    `what` names the two sides, `of` the output `o` or the gradient `d_<input>`.
    """

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
    """The outcome of a verification; `counterexample` is a runnable script where something failed."""

    checks: tuple[Check, ...]
    counterexample: str | None

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

    Shapes, values and gate regimes are random; the same seed draws the same calls. The compiled programs run on
    `device` by `backend`, within 1e-9 in float64 and 1e-5 in float32 (see `compare`). `progress` is called once a call.
    """
    attention = Attention(spec, backend)
    tally = _Tally()
    failing: list[Case] = []
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
    @given(case=st.builds(Case, shapes(spec), regimes(), st.integers(0, 2**31 - 1)))
    def holds(case: Case) -> None:
        found = []
        for comparison in compare(attention, case, device):
            found.append(comparison)
            if not comparison.passed:
                failing.append(case)
                tally.add(found)
                raise Mismatch(comparison)
        tally.add(found)
        progress()

    try:
        holds()
    except Mismatch:
        # the last failing call is the one that hypothesis shrank to
        return Report(tally.checks(), script(attention, to_text(spec.syntax), failing[-1], device))
    return Report(tally.checks(), None)


class _Tally:
    def __init__(self) -> None:
        self.worst: dict[tuple[str, str], Comparison] = {}
        self.calls: Counter[tuple[str, str]] = Counter()

    def add(self, comparisons: list[Comparison]) -> None:
        """Count one call."""
        for comparison in comparisons:
            kind = comparison.what, comparison.of
            worst = self.worst.setdefault(kind, comparison)
            if comparison.error / comparison.allowed > worst.error / worst.allowed:
                self.worst[kind] = comparison
            self.calls[kind] += 1

    def checks(self) -> tuple[Check, ...]:
        """One check for every kind of comparison."""
        return tuple(Check(*kind, self.calls[kind], c.error, c.allowed) for kind, c in self.worst.items())
