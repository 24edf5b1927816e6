"""The laws of masks as rewrite rules.

A law looks at the root of a tree only and returns an equal tree, or None where it has nothing to change. Together
they lead to a sum of products, each one path written with `@`, then at most one `fenwick`, then at most one `window`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from maskdsl.mask.nodes import Causal, Compose, Delta, Fenwick, Mask, Plus, Rank1, Semiseparable, Times, Window
from maskdsl.mask.properties import Operator, chain, is_number_valued, is_path, nest
from maskdsl.mask.scalars import ONE, add, equals, multiply, negate

Law = Callable[[Mask], Mask | None]


def times_distributes(mask: Mask) -> Mask | None:
    """X * (Y + Z) = X * Y + X * Z, and so from the right."""
    match mask:
        case Times(Plus(x, y), z):
            return Plus(Times(x, z), Times(y, z))
        case Times(x, Plus(y, z)):
            return Plus(Times(x, y), Times(x, z))
    return None


def causal_is_neutral(mask: Mask) -> Mask | None:
    """Causal * X = X, and causal @ X = X @ causal = X."""
    match mask:
        case Times(Causal(), x) | Times(x, Causal()) | Compose(Causal(), x) | Compose(x, Causal()):
            return x
    return None


def operators_associate(mask: Mask) -> Mask | None:
    """X . (Y . Z) = (X . Y) . Z, for `*`, `+` and `@`."""
    match mask:
        case Times(x, Times(y, z)):
            return Times(Times(x, y), z)
        case Plus(x, Plus(y, z)):
            return Plus(Plus(x, y), z)
        case Compose(x, Compose(y, z)):
            return Compose(Compose(x, y), z)
    return None


def times_commutes(mask: Mask) -> Mask | None:
    """X * Y = Y * X: paths first, then `fenwick`, then `window`."""
    return _sorted(Times, mask) if isinstance(mask, Times) else None


def plus_commutes(mask: Mask) -> Mask | None:
    """X + Y = Y + X, in one order however it was written."""
    return _sorted(Plus, mask) if isinstance(mask, Plus) else None


def semiseparables_multiply(mask: Mask) -> Mask | None:
    """semiseparable(g) * semiseparable(h) = semiseparable(g + h), numbers and diagonals alike."""

    def combine(left: Mask, right: Mask) -> Mask | None:
        match left, right:
            case Semiseparable(g), Semiseparable(h):
                return Semiseparable(add(g, h))
        return None

    return _combine_factors(mask, combine)


def numbers_compose(mask: Mask) -> Mask | None:
    """P * Q = P @ Q for two paths, P number-valued."""

    def combine(left: Mask, right: Mask) -> Mask | None:
        if is_path(left) and is_path(right):
            if is_number_valued(left):
                return Compose(left, right)
            return Compose(right, left) if is_number_valued(right) else None
        return None

    return _combine_factors(mask, combine)


def fenwicks_multiply(mask: Mask) -> Mask | None:
    """fenwick(l) * fenwick(m) = fenwick(l * m) for equal base and admissibility."""

    def combine(left: Mask, right: Mask) -> Mask | None:
        match left, right:
            case Fenwick(l, base, admissibility), Fenwick(m) if (right.base, right.admissibility) == (
                base,
                admissibility,
            ):
                return Fenwick(multiply(l, m), base, admissibility)
        return None

    return _combine_factors(mask, combine)


def windows_multiply(mask: Mask) -> Mask | None:
    """window(w) * window(u) = window(min(w, u))."""

    def combine(left: Mask, right: Mask) -> Mask | None:
        match left, right:
            case Window(w), Window(u):
                return Window(min(w, u))
        return None

    return _combine_factors(mask, combine)


def delta_of_zero(mask: Mask) -> Mask | None:
    """delta(k, 0) = causal."""
    return Causal() if isinstance(mask, Delta) and equals(mask.beta, 0) else None


def rank1_of_one_vector(mask: Mask) -> Mask | None:
    """rank1(a, a) = delta(a, -1)."""
    return Delta(mask.a, negate(ONE)) if isinstance(mask, Rank1) and mask.a == mask.b else None


def fenwick_of_ones(mask: Mask) -> Mask | None:
    """Fenwick with all weights 1 is causal."""
    return Causal() if isinstance(mask, Fenwick) and equals(mask.lam, 1) else None


def number_decays_commute(mask: Mask) -> Mask | None:
    """semiseparable(g) @ P = P @ semiseparable(g) for a number-valued g, which so acts first."""
    if not isinstance(mask, Compose):
        return None
    steps = chain(Compose, mask)
    ordered = sorted(steps, key=_is_number_decay)
    return nest(Compose, ordered) if ordered != steps else None


def adjacent_decays_merge(mask: Mask) -> Mask | None:
    """semiseparable(g) @ semiseparable(h) = semiseparable(g + h), both numbers or both diagonals."""
    if not isinstance(mask, Compose):
        return None
    steps = chain(Compose, mask)
    for place, pair in enumerate(itertools.pairwise(steps)):
        match pair:
            case Semiseparable(g), Semiseparable(h) if is_number_valued(pair[0]) == is_number_valued(pair[1]):
                return nest(Compose, [*steps[:place], Semiseparable(add(g, h)), *steps[place + 2 :]])
    return None


def diagonals_absorb_numbers(mask: Mask) -> Mask | None:
    """A number-valued decay at the right end joins the diagonal one that acts first, if there is any."""
    match mask:
        case Compose(left, Semiseparable(g) as last) if is_number_valued(last):
            steps = chain(Compose, left)
            for place in reversed(range(len(steps))):
                step = steps[place]
                if isinstance(step, Semiseparable) and not is_number_valued(step):
                    return nest(Compose, [*steps[:place], Semiseparable(add(step.g, g)), *steps[place + 1 :]])
    return None


LAWS: dict[str, Law] = {
    law.__name__.replace("_", "-"): law
    for law in (
        times_distributes,
        causal_is_neutral,
        delta_of_zero,
        rank1_of_one_vector,
        fenwick_of_ones,
        operators_associate,
        times_commutes,
        plus_commutes,
        semiseparables_multiply,
        numbers_compose,
        fenwicks_multiply,
        windows_multiply,
        number_decays_commute,
        adjacent_decays_merge,
        diagonals_absorb_numbers,
    )
}


def _is_number_decay(mask: Mask) -> bool:
    return isinstance(mask, Semiseparable) and is_number_valued(mask)


def _sorted(operator: Operator, mask: Mask) -> Mask | None:
    operands = chain(operator, mask)
    ordered = sorted(operands, key=_order)
    return nest(operator, ordered) if ordered != operands else None


def _order(mask: Mask) -> tuple[int, str]:
    """Paths, `fenwick`, `window`; the text decides between two of one sort."""
    rank = 1 if isinstance(mask, Fenwick) else 2 if isinstance(mask, Window) else 0
    return rank, repr(mask)


def _combine_factors(mask: Mask, combine: Callable[[Mask, Mask], Mask | None]) -> Mask | None:
    """The product with the first two factors that `combine` accepts as one."""
    if not isinstance(mask, Times):
        return None
    factors: Sequence[Mask] = chain(Times, mask)
    for i, j in itertools.combinations(range(len(factors)), 2):
        combined = combine(factors[i], factors[j])
        if combined is not None:
            return nest(Times, [*factors[:i], combined, *factors[i + 1 : j], *factors[j + 1 :]])
    return None
