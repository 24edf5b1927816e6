"""What a spec costs, counted from its normal form and set against softmax attention of the same heads.

Counted for one sequence and one head, then multiplied by the heads; a multiply-add is 2 floating-point operations.
Elementwise work (gates, level weights, exponentials) is left out, as it is for softmax. Terms of a sum and the attends
of a spec are counted apart, so the figures are upper bounds where an implementation shares their products.

Training runs in chunks of C tokens, as many as programs take for the term. Per token, for one term:

- inside the chunk: scores and scores times values, `2 C (K + V)`;
- a window of w instead: the band of keys it touches, `2 min(w + C, T) (K + V)`, and no state;
- writing the chunk's state, `2 K V`; reading m states, `2 K V m`; joining chunk states, `2 K V / C`;
- m is 1 without a hierarchy; with one, the levels above the chunk times the share of them that is not empty,
  `(levels(T) - levels(C)) (1 - 1/b)` on average in base b (all of them under strong admissibility);
- r rank-one steps a position: Gram matrix, triangular inverse and its two products
  `4 C K r^2 + C^2 r^3 / 3 + 2 C V r^2`, steps against keys, queries and values `4 C (K + V) r`, steps against the
  state `4 K V r`;
- r > 0 under a hierarchy: block operators `2 K^2 r`, their joins `2 K^2 (K + V) / C`, and the query pulled back through
  m of them, `2 K^2 m`; under a window: the query pulled back through the steps in it, `4 K min(w, T) r`.

The backward pass has two adjoint products for each product: training is three times the forward pass. Softmax attention
is `(T + 1) (K + V)` forward (the causal half) and 3.5 times that for training, as its backward pass computes the scores
again. Bytes are what has to cross the memory bus: every input read and output written once forward; inputs and the
output's gradient read and the inputs' gradients written once backward; and in float32, once forward and twice backward,
the chunk states written and read (with a K x K operator each where r > 0 under a hierarchy).

Decoding one token, on average over the first T, reads every state that holds something, `2 K V`, multiplies it by the
step operator (`K V` for a decay, `4 K V` for a rank-one step), and adds `2 K V` for the write. A state is read and
written once. A hierarchy has levels(T) - 1 of them, of which the share 1 - 1/b holds something in base b (all under
strong admissibility); where decays commute with everything they wait in a factor a level, and what is written is one
state (strong: three), of a product and a sum, `2 K V`, each. A window keeps its last w keys and values instead:
`2 min(w, T) (K + V)`, and its keys are carried along by the path (`K` for a decay, `4 K` for a rank-one step, each).
All of them are read, the token's are written, and so are all keys under rank-one steps.
"""

from __future__ import annotations

from dataclasses import dataclass

from maskdsl.lowering.chunking import chunk_size
from maskdsl.lowering.memory import stays
from maskdsl.mask.levels import levels
from maskdsl.mask.nodes import Kind
from maskdsl.mask.normal import Decay, Hierarchy, NormalForm, RankOne, Term
from maskdsl.spec import Spec

STATE_BYTES = 4


@dataclass(frozen=True)
class Sizes:
    """The layer that costs are given for: its heads, key and value size, and the bytes of an input number."""

    heads: int = 16
    key: int = 128
    value: int = 128
    input_bytes: int = 2


@dataclass(frozen=True)
class Cost:
    """Floating-point operations and bytes."""

    flops: float
    bytes: float


def state_numbers(form: NormalForm, length: int, sizes: Sizes) -> int:
    """How many numbers of state one head keeps after `length` tokens, at most."""
    return sum(_term_state(term, length, sizes) for term in form.terms)


def cache_numbers(length: int, sizes: Sizes) -> int:
    """How many numbers of key-value cache one head of softmax attention keeps after `length` tokens."""
    return length * (sizes.key + sizes.value)


def training(spec: Spec, forms: tuple[NormalForm, ...], length: int, sizes: Sizes) -> Cost:
    """One forward and backward pass over a sequence of `length` tokens, all heads."""
    terms = [term for form in forms for term in form.terms]
    flops = 3 * sum(_forward_flops(term, length, sizes) for term in terms)
    moved = 3 * STATE_BYTES * sum(_forward_states(term, length, sizes) for term in terms)
    moved += sizes.input_bytes * (3 * input_numbers(spec, forms, length, sizes) + 2 * sizes.value)
    return Cost(sizes.heads * length * flops, sizes.heads * length * moved)


def decoding(spec: Spec, forms: tuple[NormalForm, ...], length: int, sizes: Sizes) -> Cost:
    """One step among the first `length`, on average, all heads."""
    terms = [term for form in forms for term in form.terms]
    flops = sum(_step_flops(term, length, sizes) for term in terms)
    moved = STATE_BYTES * sum(_step_numbers(term, length, sizes) for term in terms)
    moved += sizes.input_bytes * (input_numbers(spec, forms, length, sizes) + sizes.value)
    return Cost(sizes.heads * flops, sizes.heads * moved)


def softmax_training(length: int, sizes: Sizes) -> Cost:
    """Causal softmax attention, forward and backward, all heads."""
    flops = 3.5 * (length + 1) * (sizes.key + sizes.value)
    moved = sizes.input_bytes * (3 * (2 * sizes.key + sizes.value) + 3 * sizes.value)
    return Cost(sizes.heads * length * flops, sizes.heads * length * moved)


def softmax_decoding(length: int, sizes: Sizes) -> Cost:
    """One step of softmax attention at position `length`, all heads."""
    cache = cache_numbers(length, sizes)
    moved = sizes.input_bytes * (cache + 2 * (sizes.key + sizes.value))
    return Cost(sizes.heads * 2.0 * cache, sizes.heads * float(moved))


def input_numbers(spec: Spec, forms: tuple[NormalForm, ...], length: int, sizes: Sizes) -> int:
    """How many numbers of input a token and head has; parameters, one for all tokens, are left out."""
    hierarchies = [term.hierarchy for form in forms for term in form.terms if term.hierarchy]
    weights = max((_states(each, length) for each in hierarchies), default=0)
    count = {"K": sizes.key, "V": sizes.value, "L": weights, None: 1}
    return sum(count[given.kind.feature] for given in spec.inputs if given.kind not in (Kind.HEAD, Kind.HEAD_CHANNEL))


def _rank(term: Term) -> int:
    return sum(isinstance(step, RankOne) for step in term.path)


def _decays(term: Term) -> int:
    return sum(isinstance(step, Decay) for step in term.path)


def _states(hierarchy: Hierarchy | None, length: int) -> int:
    return levels(length, hierarchy.base, hierarchy.admissibility) if hierarchy else 1


def _states_read(hierarchy: Hierarchy | None, length: int, chunk: int) -> float:
    """How many block states outside its chunk a token reads, on average."""
    if length <= chunk:
        return 0
    if hierarchy is None:
        return 1
    above = _states(hierarchy, length) - _states(hierarchy, chunk)
    return above if hierarchy.admissibility == "strong" else above * (1 - 1 / hierarchy.base)


def _term_state(term: Term, length: int, sizes: Sizes) -> int:
    if term.window is not None:
        return min(term.window, length) * (sizes.key + sizes.value)
    return _states(term.hierarchy, length) * sizes.key * sizes.value


def _forward_flops(term: Term, length: int, sizes: Sizes) -> float:
    """Per token."""
    chunk = chunk_size(term)
    k, v, r, c = sizes.key, sizes.value, _rank(term), min(chunk, length)
    solve = 4 * c * k * r**2 + c**2 * r**3 / 3 + 2 * c * v * r**2 + 4 * c * (k + v) * r
    if term.window is not None:
        return 2 * min(term.window + c, length) * (k + v) + solve + 4 * k * min(term.window, length) * r
    read = _states_read(term.hierarchy, length, chunk)
    outside = 2 * k * v * (1 + read + 1 / c) + 4 * k * v * r if read else 0
    if r and read and term.hierarchy:
        outside += 2 * k**2 * r + 2 * k**2 * (k + v) / c + 2 * k**2 * read
    return 2 * c * (k + v) + solve + outside


def _forward_states(term: Term, length: int, sizes: Sizes) -> float:
    """Numbers of state written and read, per token."""
    chunk = chunk_size(term)
    read = 0 if term.window is not None else _states_read(term.hierarchy, length, chunk)
    operator = sizes.key**2 if _rank(term) and term.hierarchy else 0
    return (sizes.key * sizes.value + operator) * (1 + read) / chunk if read else 0


def _step_flops(term: Term, length: int, sizes: Sizes) -> float:
    k, v, path = sizes.key, sizes.value, _decays(term) + 4 * _rank(term)
    if term.window is not None:
        kept = min(term.window, length)
        return 2 * kept * (k + v) + kept * k * path
    read, written = _touched(term, length)
    steps = 2 * written if term.hierarchy and stays(term) else path * read
    return k * v * (2 * read + steps + 2)


def _step_numbers(term: Term, length: int, sizes: Sizes) -> float:
    """Numbers of state read and written."""
    if term.window is not None:
        kept = min(term.window, length)
        return kept * (sizes.key + sizes.value) + (1 if stays(term) else kept) * sizes.key + sizes.value
    return sum(_touched(term, length)) * sizes.key * sizes.value


def _touched(term: Term, length: int) -> tuple[float, float]:
    """How many states are read and how many are written, on average."""
    hierarchy = term.hierarchy
    if hierarchy is None:
        return 1, 1
    strong = hierarchy.admissibility == "strong"
    rows = _states(hierarchy, length) - 1
    held = rows if strong else rows * (1 - 1 / hierarchy.base)
    return held, (3 if strong else 1) if stays(term) else held
