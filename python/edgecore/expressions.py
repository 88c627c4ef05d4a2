"""Expressions over the fields of one row, which a feature may read in a field's place:

    Agg(col("volt") * col("amp"), ["mean", "p95"], window="1m", name="power")
    Agg(expression("where(mode == 'run', temp, 0)"), "max", window="1h", name="hot")

Data, not code: compiled in the core for the schema. Numbers on a grid are exact (0.1 is a tenth),
so a division by a field needs the resolution of its result: ``round(a / b, 0.001)``. A null makes
the result null, and so does a division by zero, which is counted.
All rules: docs/formats/feature-definition.md.
"""

from __future__ import annotations

from edgecore._core import features as _core
from edgecore.errors import Invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from collections.abc import Callable, Iterator, Sequence
    from fractions import Fraction
    from typing import TypeAlias

    # Exact: a float is the decimal that it is shown as.
    Number: TypeAlias = int | float | str | Fraction
    Operand: TypeAlias = "Expression | Number | bool"
    Tree: TypeAlias = list[object] | bool

VERSION = 1
TEXT_CHARS_MAX = 4096
EXPONENT_MAX = 400  # of a number in a text, so that it is small to begin with


class Expression:
    """A tree over fields. Immutable; built by :func:`col` and operators, or :func:`expression`.

    ``+ - * /`` with fields and numbers; ``== != < <= > >=`` give a truth, ``&`` and ``|`` join
    two; text is compared with ``==`` and ``!=``.
    """

    __slots__ = ("tree",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, tree: Tree) -> None:
        self.tree = tree

    def canonical(self) -> list[object]:
        """As it is encoded: the language's version and the tree."""
        return [VERSION, self.tree]

    def to_bytes(self) -> bytes:
        from cbor2 import dumps

        return bytes(dumps(self.canonical(), canonical=True))

    @staticmethod
    def from_canonical(body: object) -> Expression:
        """The inverse of :meth:`canonical`. Raises ``Incompatible`` for an operator or version of
        a later build, ``Invalid`` for anything that is no expression."""
        from cbor2 import dumps

        try:
            _core.expression_fields(dumps(body, canonical=True))
        except (ValueError, TypeError, RecursionError) as error:
            raise Invalid(f"expression: {error}") from None
        assert isinstance(body, list)
        return Expression(body[1])

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that it reads, in the order of their first use. Raises ``Invalid``
        for an expression beyond the limits, or of constants alone."""
        return tuple(_core.expression_fields(self.to_bytes()))

    def columns(self) -> Iterator[tuple[str, str]]:
        """(field, unit it must have or empty) of each use."""
        yield from _columns(self.tree)

    # ------------------------------------------------------------ operators

    def __add__(self, other: Operand) -> Expression:
        return _binary("+", self, other)

    def __radd__(self, other: Operand) -> Expression:
        return _binary("+", other, self)

    def __sub__(self, other: Operand) -> Expression:
        return _binary("-", self, other)

    def __rsub__(self, other: Operand) -> Expression:
        return _binary("-", other, self)

    def __mul__(self, other: Operand) -> Expression:
        return _binary("*", self, other)

    def __rmul__(self, other: Operand) -> Expression:
        return _binary("*", other, self)

    def __truediv__(self, other: Operand) -> Expression:
        return _binary("/", self, other)

    def __rtruediv__(self, other: Operand) -> Expression:
        return _binary("/", other, self)

    def __neg__(self) -> Expression:
        return _binary("-", 0, self)

    def __eq__(self, other: object) -> Expression:  # type: ignore[override]
        return _binary("==", self, _text_or_number(other))

    def __ne__(self, other: object) -> Expression:  # type: ignore[override]
        return _binary("!=", self, _text_or_number(other))

    def __lt__(self, other: Operand) -> Expression:
        return _binary("<", self, other)

    def __le__(self, other: Operand) -> Expression:
        return _binary("<=", self, other)

    def __gt__(self, other: Operand) -> Expression:
        return _binary(">", self, other)

    def __ge__(self, other: Operand) -> Expression:
        return _binary(">=", self, other)

    def __and__(self, other: Operand) -> Expression:
        return _binary("min", self, other)

    def __or__(self, other: Operand) -> Expression:
        return _binary("max", self, other)

    def __bool__(self) -> bool:
        raise Invalid("an expression has no truth of its own: use & and |, or where()")

    def min(self, other: Operand) -> Expression:
        return _binary("min", self, other)

    def max(self, other: Operand) -> Expression:
        return _binary("max", self, other)

    def clip(self, low: Operand, high: Operand) -> Expression:
        """Not below `low`, not above `high`."""
        return Expression(["clip", self.tree, _tree(low), _tree(high)])

    def bucket(self, edges: Sequence[Number]) -> Expression:
        """How many of the ascending `edges` are not above it: 0 to ``len(edges)``."""
        pairs = [[edge.numerator, edge.denominator] for edge in map(_fraction, edges)]
        return Expression(["bucket", self.tree, pairs])

    def round(self, resolution: Number) -> Expression:
        """To the nearest multiple, ties to even. A quotient is rounded once, as it is divided."""
        step = _fraction(resolution)
        if isinstance(self.tree, list) and self.tree[0] == "/" and len(self.tree) == 3:
            return Expression([*self.tree, step.numerator, step.denominator])
        return Expression(["round", self.tree, step.numerator, step.denominator])

    def __repr__(self) -> str:
        return f"Expression({_show(self.tree)})"

    def __str__(self) -> str:
        return _show(self.tree)


def col(name: str, unit: str = "") -> Expression:
    """A field. With a `unit`, a stream that has it in another unit is refused."""
    return Expression(["col", name, unit] if unit else ["col", name])


def where(condition: Expression, chosen: Operand, otherwise: Operand) -> Expression:
    """`chosen` where the condition holds; nulls of the other are of no matter."""
    return Expression(["where", condition.tree, _tree(chosen), _tree(otherwise)])


class _Text(str):
    """A text of the language, which is never taken as a number."""

    __slots__ = ()


def _columns(tree: object) -> Iterator[tuple[str, str]]:
    if not isinstance(tree, list) or tree[0] in ("num", "text"):
        return
    if tree[0] == "col":
        yield tree[1], tree[2] if len(tree) == 3 else ""
        return
    for part in tree[1:]:
        if isinstance(part, list) and part and isinstance(part[0], str):
            yield from _columns(part)


def _fraction(value: object) -> Fraction:
    from fractions import Fraction

    if isinstance(value, bool | _Text) or not isinstance(value, int | float | str | Fraction):
        raise Invalid(f"expression: {value!r} is not a number")
    try:
        if isinstance(value, str) and abs(int(value.lower().partition("e")[2] or 0)) > EXPONENT_MAX:
            raise Invalid(f"expression: {value!r} is beyond any number that features have")
        return Fraction(repr(value) if isinstance(value, float) else value)
    except (ValueError, ZeroDivisionError):
        raise Invalid(f"expression: {value!r} is not a number") from None


def _tree(operand: object) -> Tree:
    if isinstance(operand, Expression):
        return operand.tree
    if isinstance(operand, bool):
        return operand
    number = _fraction(operand)
    return ["num", number.numerator, number.denominator]


def _text_or_number(value: object) -> Expression:
    return Expression(["text", str(value)]) if isinstance(value, str) else Expression(_tree(value))


def _binary(op: str, left: object, right: object) -> Expression:
    return Expression([op, _tree(left), _tree(right)])


# ---------------------------------------------------------------- as text

_INFIX = {"+": 4, "-": 4, "*": 5, "/": 5, "==": 3, "!=": 3, "<": 3, "<=": 3, ">": 3, ">=": 3}


def _number(numerator: object, denominator: object) -> str:
    """As a decimal where it is one."""
    from fractions import Fraction

    value = Fraction(f"{numerator}/{denominator}")
    for scale in range(19):
        steps = value * 10**scale
        if steps.denominator == 1:
            if not scale:
                return str(steps.numerator)
            digits = f"{abs(steps.numerator):0{scale + 1}d}"
            return f"{'-' * (value < 0)}{digits[:-scale]}.{digits[-scale:]}"
    return f"{numerator}/{denominator}"


def _is_truth(tree: object) -> bool:
    """As its text shows it: a comparison, or some that are joined."""
    if not isinstance(tree, list):
        return isinstance(tree, bool)
    joined = tree[0] in ("min", "max") and all(map(_is_truth, tree[1:]))
    return joined or _INFIX.get(tree[0]) == _INFIX["=="]


def _show(tree: object, tight: int = 0) -> str:
    """In the language of :func:`expression`."""
    if isinstance(tree, bool):
        return str(tree).lower()
    assert isinstance(tree, list)
    op, *parts = tree
    if op == "col":
        plain = str(parts[0]).isidentifier() and len(parts) == 1
        return str(parts[0]) if plain else f"col({', '.join(map(repr, parts))})"
    if op == "num":
        text = _number(*parts)
        return f"({text})" if ("/" in text or text[0] == "-") and tight else text
    if op == "text":
        return repr(parts[0])
    if op in _INFIX:
        mine = _INFIX[op]
        text = f"{_show(parts[0], mine)} {op} {_show(parts[1], mine + 1)}"
        if len(parts) == 4:
            return f"round({text}, {_number(*parts[2:])})"
        return f"({text})" if mine < tight else text
    if op in ("min", "max") and _is_truth(tree):
        mine, word = (2, "and") if op == "min" else (1, "or")
        text = f"{_show(parts[0], mine)} {word} {_show(parts[1], mine + 1)}"
        return f"({text})" if mine < tight else text
    if op == "bucket":
        edges = ", ".join(_number(*edge) for edge in parts[1])
        return f"bucket({_show(parts[0])}, {edges})"
    if op == "round":
        return f"round({_show(parts[0])}, {_number(*parts[1:])})"
    return f"{op}({', '.join(_show(part) for part in parts)})"


def expression(text: str) -> Expression:
    """Reads the text form: ``+ - * /``, comparisons, ``and or not``, ``'text'``, numbers, ``true
    false``, names of fields (``col("odd name")``, ``col("temp", "degC")``), and ``min max clip
    where bucket round``. Raises ``Invalid`` with the column of what it does not know."""
    import ast

    if len(text) > TEXT_CHARS_MAX:
        raise Invalid(f"expression of {len(text)} characters: at most {TEXT_CHARS_MAX}")
    source = text.strip()
    try:
        tree = ast.parse(source, mode="eval")
        made = _Reader(source).read(tree.body)
    except SyntaxError as error:
        raise Invalid(f"expression {text[:80]!r}: {error.msg} at column {error.offset}") from None
    except (RecursionError, MemoryError, ValueError):
        raise Invalid(f"expression {text[:40]!r}: it can't be read") from None
    if not isinstance(made, Expression):
        made = _text_or_number(made)
    return made


class _Reader:
    """Python's own syntax tree, of which only what the language has is taken."""

    def __init__(self, source: str) -> None:
        self.source = source

    def refuse(self, node: ast.AST, what: str) -> Invalid:
        at = getattr(node, "col_offset", 0) + 1
        return Invalid(f"expression {self.source!r}: {what} at column {at}")

    def read(self, node: ast.expr) -> object:
        import ast

        if isinstance(node, ast.Constant):
            return self.constant(node)
        if isinstance(node, ast.Name):
            return {"true": True, "false": False}.get(node.id, col(node.id))
        if isinstance(node, ast.BinOp):
            ops = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
            if (op := ops.get(type(node.op))) is None:
                raise self.refuse(node, "an operator that is none of + - * /")
            return _binary(op, self.read(node.left), self.read(node.right))
        if isinstance(node, ast.UnaryOp):
            return self.unary(node)
        if isinstance(node, ast.BoolOp):
            op = "min" if isinstance(node.op, ast.And) else "max"
            made = self.read(node.values[0])
            for other in node.values[1:]:
                made = _binary(op, made, self.read(other))
            return made
        if isinstance(node, ast.Compare):
            return self.comparison(node)
        if isinstance(node, ast.Call):
            return self.call(node)
        raise self.refuse(node, "not part of the language")

    def constant(self, node: ast.Constant) -> object:
        import ast

        if isinstance(node.value, str):
            return _Text(node.value)
        if isinstance(node.value, int | float) and not isinstance(node.value, bool):
            return _fraction(ast.get_source_segment(self.source, node) or "")
        raise self.refuse(node, "a constant that is no number, text, true or false")

    def unary(self, node: ast.UnaryOp) -> object:
        import ast

        value = self.read(node.operand)
        if isinstance(node.op, ast.Not):
            return _binary("==", value, False)
        if not isinstance(node.op, ast.USub):
            raise self.refuse(node, "an operator that is not - or not")
        return _binary("-", 0, value) if isinstance(value, Expression | str) else -_fraction(value)

    def comparison(self, node: ast.Compare) -> object:
        import ast

        ops = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">",
               ast.GtE: ">="}  # fmt: skip
        op = ops.get(type(node.ops[0]))
        if len(node.ops) != 1 or op is None:
            raise self.refuse(node, "one of == != < <= > >= between two values is needed")
        left, right = self.read(node.left), self.read(node.comparators[0])
        return _binary(op, _text_or_number(left), _text_or_number(right))

    def call(self, node: ast.Call) -> object:
        import ast

        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if node.keywords or name not in _CALLS:
            raise self.refuse(node, f"a function that is none of {' '.join(sorted(_CALLS))}")
        parts = [self.read(part) for part in node.args]
        least, most, make = _CALLS[name]
        if not least <= len(parts) <= most:
            raise self.refuse(node, f"{name}() with {len(parts)} values")
        try:
            return make(*parts)
        except (Invalid, TypeError) as error:
            raise self.refuse(node, str(error).removeprefix("expression: ")) from None


def _named(name: object, unit: object = "") -> Expression:
    if not isinstance(name, str) or not isinstance(unit, str):
        raise Invalid("col() takes texts")
    return col(str(name), str(unit))


def _fold(op: str) -> Callable[..., Expression]:
    def make(first: object, *others: object) -> Expression:
        made = Expression(_tree(first))
        for other in others:
            made = _binary(op, made, other)
        return made

    return make


_CALLS: dict[str, tuple[int, int, Callable[..., Expression]]] = {
    "col": (1, 2, _named),
    "min": (2, 64, _fold("min")),
    "max": (2, 64, _fold("max")),
    "clip": (3, 3, lambda value, low, high: Expression(_tree(value)).clip(low, high)),
    "where": (3, 3, lambda *parts: Expression(["where", *map(_tree, parts)])),
    "bucket": (2, 65, lambda value, *edges: Expression(_tree(value)).bucket(edges)),
    "round": (2, 2, lambda value, resolution: Expression(_tree(value)).round(resolution)),
}

__all__ = ["Expression", "col", "expression", "where"]
