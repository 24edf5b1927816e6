"""Random well-typed specs, as text: any legal composition of the language up to a small depth."""

from __future__ import annotations

from typing import Literal

from hypothesis import strategies as st

Sort = Literal["number", "diagonal", "operator"]


@st.composite
def spec_texts(draw: st.DrawFn, depth: int = 2) -> str:
    """The text of one `attention` block that uses everything it declares and assigns.

    `depth` bounds how deep masks and outputs nest. Rank-one steps are mostly normalised, so that products of many of
    them stay bounded.
    """
    return _Writer(draw).block(depth)


class _Writer:
    """Writes one spec; every method returns the text of an expression and declares what it needs on the way."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self._inputs: dict[str, list[str]] = {}
        self._assignments: list[str] = []

    def block(self, depth: int) -> str:
        """The whole text."""
        output = self._output(depth)
        declarations = [f"{', '.join(names)} : {kind}" for kind, names in self._inputs.items()]
        body = [*declarations, *self._assignments, f"return {output}"]
        return "attention random:\n" + "".join(f"    {line}\n" for line in body)

    # -- choices ------------------------------------------------------------------------------------------------

    def _pick(self, *options: str) -> str:
        return self._draw(st.sampled_from(options))

    def _chance(self, percent: int) -> bool:
        return self._draw(st.integers(1, 100)) <= percent

    def _input(self, kind: str) -> str:
        """An input of a kind and range: an earlier one now and then, else a new one."""
        names = self._inputs.setdefault(kind, [])
        if names and self._chance(40):
            return self._pick(*names)
        names.append(f"x{sum(map(len, self._inputs.values()))}")
        return names[-1]

    def _maybe_named(self, expression: str) -> str:
        """The expression as it is, or under a name of its own."""
        if not self._chance(30):
            return expression
        name = f"y{len(self._assignments)}"
        self._assignments.append(f"{name} = {expression}")
        return name

    # -- scalars and vectors --------------------------------------------------------------------------------------

    def _gate(self) -> str:
        """One log decay a token, a head or a spec."""
        token, head = (lambda: self._input("token")), (lambda: self._input("head"))
        makers = {
            "declared": lambda: self._input("token <= 0"),
            "mamba": lambda: f"-exp({head()}) * softplus({token()} + {head()})",
            "logsigmoid": lambda: f"logsigmoid({token()}) / 16",
            "softplus": lambda: f"-softplus({token()})",
            "log": lambda: f"log({self._input('token in [0.1, 1]')})",
            "square": lambda: f"-{token()} ** 2",
            "clamp": lambda: f"clamp({token()}, -5, 0)",
            "head": lambda: f"-exp({head()})",
            "declared head": lambda: self._input("head <= 0"),
            "constant": lambda: self._pick("-0.1", "log(1 - 2 ** -5)", "-1 / K", "0"),
        }
        return self._maybe_named(makers[self._pick(*makers)]())

    def _channel_gate(self) -> str:
        """One log decay a channel, and a token or a head."""
        makers = {
            "declared": lambda: self._input("channel <= 0"),
            "softplus": lambda: f"-exp({self._input('head_channel')}) * softplus({self._input('channel')})",
            "logsigmoid": lambda: f"logsigmoid({self._input('channel')}) / 4",
            "head channel": lambda: self._input("head_channel <= 0"),
            "computed head channel": lambda: f"-softplus({self._input('head_channel')})",
        }
        return self._maybe_named(makers[self._pick(*makers)]())

    def _unit(self) -> str:
        """A vector on the key side of length 1 or, seldom, as it came."""
        key = self._input("key")
        return key if self._chance(15) else self._maybe_named(f"l2norm({key})")

    def _strength(self) -> str:
        """A number in [0, 1] a token."""
        makers = {
            "sigmoid": lambda: f"sigmoid({self._input('token')})",
            "declared": lambda: self._input("token in [0, 1]"),
            "head": lambda: f"sigmoid({self._input('head')})",
            "constant": lambda: "0.5",
        }
        return self._maybe_named(makers[self._pick(*makers)]())

    def _weight(self) -> str:
        """The weights of a hierarchy."""
        makers = {
            "positive": lambda: self._input("level >= 0"),
            "any": lambda: self._input("level"),
            "softplus": lambda: f"softplus({self._input('level')})",
            "scaled": lambda: f"{self._input('level >= 0')} * {self._input('token')}",
            "token": lambda: self._input("token"),
            "constant": lambda: "1",
        }
        return self._maybe_named(makers[self._pick(*makers)]())

    # -- masks ----------------------------------------------------------------------------------------------------

    def _path(self, sort: Sort, depth: int) -> str:
        """A path mask with values of one sort; what stands under `@` must be one."""
        if depth > 0 and self._chance(40):
            below = self._below(sort)
            pair = self._shuffled(self._path(sort, depth - 1), self._path(below, depth - 1))
            by_entry = (sort != "operator" or below == "number") and self._chance(50)
            return f"({' * '.join(pair)})" if by_entry else f"({' @ '.join(pair)})"
        match sort:
            case "number":
                return "causal" if self._chance(15) else f"semiseparable({self._gate()})"
            case "diagonal":
                return f"semiseparable({self._channel_gate()})"
            case "operator":
                return self._rank_one()

    def _rank_one(self) -> str:
        unit = self._unit
        makers = {
            "delta": lambda: f"delta({unit()}, {self._strength()})",
            "reflection": lambda: f"delta({unit()}, 2 * {self._strength()})",
            "rank1": lambda: f"rank1(-{self._strength()} * {unit()}, {unit()})",
            "half": lambda: f"rank1(-0.5 * {unit()}, {unit()})",
            "gated": lambda: f"rank1(-{self._strength()} * {self._input('channel in [0, 1]')} * {unit()}, {unit()})",
        }
        return makers[self._pick(*makers)]()

    def _below(self, sort: Sort) -> Sort:
        """A sort of values that can stand beside `sort` in a product without changing what that is valued in."""
        order: tuple[Sort, ...] = ("number", "diagonal", "operator")
        return self._draw(st.sampled_from(order[: order.index(sort) + 1]))

    def _shuffled(self, left: str, right: str) -> tuple[str, str]:
        return (left, right) if self._chance(50) else (right, left)

    def _numbers(self, tree: str, depth: int) -> str:
        """A mask of numbers; `tree` is what all hierarchies within share, as they may meet in a product."""
        if depth > 0 and self._chance(40):
            left, right = self._numbers(tree, depth - 1), self._numbers(tree, depth - 1)
            return f"{left} * {right}" if self._chance(60) else f"({left} + {right})"
        makers = {
            "path": lambda: self._path("number", depth),
            "fenwick": lambda: f"fenwick({self._weight()}{tree})",
            "window": lambda: f"window({self._width()})",
        }
        return makers[self._pick(*makers)]()

    def _width(self) -> str:
        widths = st.one_of(st.integers(1, 9), st.sampled_from((63, 64, 65, 128, 500)), st.integers(1, 200))
        return self._pick(str(self._draw(widths)), "2 * 8")

    def _product(self, depth: int) -> str:
        """A product of factors entry by entry, one of them perhaps not valued in numbers."""
        tree = self._pick("", "", ", base=2", ", base=3", ", base=4", ", base=5", ', admissibility="strong"')
        sort: Sort = self._draw(st.sampled_from(("number", "diagonal", "operator")))
        factors = [self._path(sort, depth)]
        if sort == "diagonal" and self._chance(30):
            factors.append(self._path("diagonal", depth - 1))
        factors += [self._numbers(tree, depth - 1) for _ in range(self._draw(st.integers(0, 2)))]
        return " * ".join(self._draw(st.permutations(factors)))

    def _mask(self, depth: int) -> str:
        """A sum of products."""
        terms = [self._product(depth) for _ in range(self._draw(st.sampled_from((1, 1, 1, 2, 3))))]
        return self._maybe_named(" + ".join(terms))

    # -- outputs --------------------------------------------------------------------------------------------------

    def _query(self) -> str:
        makers = {
            "key": lambda: self._input("key"),
            "l2norm": lambda: f"l2norm({self._input('key')})",
            "scaled": lambda: f"{self._strength()} * {self._input('key')}",
            "channel": lambda: self._input("channel"),
            "head channel": lambda: self._input("head_channel"),
        }
        return makers[self._pick(*makers)]()

    def _attend(self, depth: int) -> str:
        value = self._output(depth - 1) if depth > 0 and self._chance(20) else self._input("value")
        scale = self._pick("", "", ", scale=1 / sqrt(K)", ", 0.5")
        if not scale and self._chance(20):
            scale = f", scale={self._strength()}"
        return self._maybe_named(f"attend({self._query()}, {self._query()}, {value}, {self._mask(depth)}{scale})")

    def _output(self, depth: int) -> str:
        attend = self._attend(depth)
        if depth == 0 or self._chance(40):
            return attend
        value = lambda: self._input("value")  # noqa: E731
        makers = {
            "gate": lambda: f"{attend} * silu({value()})",
            "skip": lambda: f"{attend} + {self._input('head')} * {value()}",
            "norm": lambda: f"l2norm({attend}, eps=1e-5)",
            "difference": lambda: f"{attend} - {self._strength()} * {self._attend(depth - 1)}",
            "sum": lambda: f"2 * {attend} + {self._attend(depth - 1)} / 3",
            "bounded": lambda: f"tanh({attend})",
        }
        return makers[self._pick(*makers)]()
