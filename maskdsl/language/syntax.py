"""The syntax tree of a spec: what was written, before any name or kind is resolved."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Span:
    """A piece of source text; lines and columns count from 1, the end is exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int


NOWHERE = Span(0, 0, 0, 0)


@dataclass(frozen=True)
class Node:
    """A node of the syntax tree; its place in the text takes no part in equality."""

    span: Span = field(default=NOWHERE, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True)
class Expression(Node):
    """Anything an assignment can name: a scalar, a vector, a mask or an attend."""


@dataclass(frozen=True)
class Number(Expression):
    """A literal, never negative (a minus sign is `Negative`); `value` is an int where it was written as one."""

    value: int | float


@dataclass(frozen=True)
class Name(Expression):
    """A use of an input, an assigned name, or a dimension (`B T H Hk K V L`)."""

    name: str


@dataclass(frozen=True)
class Text(Expression):
    """A quoted word, as in `admissibility="strong"`."""

    value: str


@dataclass(frozen=True)
class Negative(Expression):
    """Unary minus."""

    operand: Expression


@dataclass(frozen=True)
class Binary(Expression):
    """`left operator right`, the operator one of `+ - * / ** @`."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Keyword(Node):
    """A named argument of a call."""

    name: str
    value: Expression


@dataclass(frozen=True)
class Call(Expression):
    """A function, a mask constructor or `attend`, applied."""

    function: str
    arguments: tuple[Expression, ...] = ()
    keywords: tuple[Keyword, ...] = ()


@dataclass(frozen=True)
class Range(Node):
    """The closed interval an input promises to stay in; None is unbounded."""

    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Declared(Node):
    """One name of a declaration."""

    name: str


@dataclass(frozen=True)
class Declaration(Node):
    """`a, b : kind range`."""

    names: tuple[Declared, ...]
    kind: str
    range: Range = Range()


@dataclass(frozen=True)
class Assignment(Node):
    """`name = value`."""

    name: str
    value: Expression


@dataclass(frozen=True)
class Return(Node):
    """`return value`, the last line of a block."""

    value: Expression


Statement = Declaration | Assignment | Return


@dataclass(frozen=True)
class Attention(Node):
    """One `attention name:` block; `doc` is the docstring with its common indentation removed."""

    name: str
    doc: str
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class File(Node):
    """All blocks of one source text, in order."""

    blocks: tuple[Attention, ...]
