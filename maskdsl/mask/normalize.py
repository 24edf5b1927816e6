"""From a mask tree to its normal form: rewrite by the laws until none applies, then read the terms off."""

from __future__ import annotations

from maskdsl.mask.laws import LAWS
from maskdsl.mask.nodes import Causal, Compose, Delta, Fenwick, Mask, Plus, Rank1, Semiseparable, Times, Window
from maskdsl.mask.normal import Decay, Hierarchy, NormalForm, RankOne, Step, Term
from maskdsl.mask.properties import chain, is_path, nest
from maskdsl.mask.scalars import ONE, equals, multiply, negate

_LIMIT = 10_000


def normalize(mask: Mask) -> NormalForm:
    """The normal form of `mask`.

    Raises ValueError for a tree that is no mask of the language: `*` of two paths neither of them number-valued and not
    both diagonal, `@` on a mask that is no path, or two hierarchies of different base in one product.
    """
    return NormalForm(tuple(_term(product) for product in chain(Plus, rewrite(mask))))


def rewrite(mask: Mask) -> Mask:
    """The equal tree to which no law applies; RuntimeError if the laws never come to an end."""
    for _ in range(_LIMIT):
        changed = _rewrite_once(mask)
        if changed is None:
            return mask
        mask = changed
    raise RuntimeError(f"The laws did not come to an end within {_LIMIT} steps; the mask is now {mask}.")


def _rewrite_once(mask: Mask) -> Mask | None:
    """One law applied at the root, or else once in each operand; the root comes first, since it sees whole chains."""
    for law in LAWS.values():
        changed = law(mask)
        if changed is not None:
            return changed
    match mask:
        case Compose(left, right) | Times(left, right) | Plus(left, right):
            changes = _rewrite_once(left), _rewrite_once(right)
            if changes != (None, None):
                return type(mask)(changes[0] or left, changes[1] or right)
    return None


def _term(product: Mask) -> Term:
    paths: list[Mask] = []
    hierarchies: list[Hierarchy] = []
    windows: list[int] = []
    for factor in chain(Times, product):
        match factor:
            case Fenwick(lam, base, admissibility):
                hierarchies.append(Hierarchy(lam, base, admissibility))
            case Window(width):
                windows.append(width)
            case _:
                paths.append(factor)
    if len(paths) > 1 or not all(map(is_path, paths)):
        raise ValueError(f"The mask {product} has no chunkwise form.")
    if len(hierarchies) > 1:
        raise ValueError(f"The mask {product} has two hierarchies of different base or admissibility.")
    steps = tuple(_step(step) for path in paths for step in reversed(chain(Compose, path)) if step != Causal())
    return Term(steps, hierarchies[0] if hierarchies else None, windows[0] if windows else None)


def _step(path: Mask) -> Step:
    match path:
        case Semiseparable(g):
            return Decay(g)
        case Delta(k, beta):
            return RankOne(k, k, negate(beta))
        case Rank1(a, b):
            return RankOne(a, b, ONE)
    raise ValueError(f"The mask {path} has no step operator of its own.")


def to_mask(form: NormalForm) -> Mask:
    """The tree that a normal form stands for."""
    return nest(Plus, [_product(term) for term in form.terms])


def _product(term: Term) -> Mask:
    factors: list[Mask] = []
    if term.path:
        factors.append(nest(Compose, [_path(step) for step in reversed(term.path)]))
    if term.hierarchy is not None:
        factors.append(Fenwick(term.hierarchy.lam, term.hierarchy.base, term.hierarchy.admissibility))
    if term.window is not None:
        factors.append(Window(term.window))
    return nest(Times, factors or [Causal()])


def _path(step: Step) -> Mask:
    match step:
        case Decay(g):
            return Semiseparable(g)
        case RankOne(a, b, coefficient) if a == b:
            return Delta(a, negate(coefficient))
        case RankOne(a, b, coefficient):
            return Rank1(a if equals(coefficient, 1) else multiply(coefficient, a), b)
