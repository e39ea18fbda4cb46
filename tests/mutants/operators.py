"""Small changes of a program: each place where an operator, a number, a condition or a call could be another one."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_TWINS = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "argmax": "argmin",
    "argmin": "argmax",
    "sum": "mean",
    "mean": "sum",
    "floor": "ceil",
    "cos": "sin",
    "zeros": "ones",
    "zeros_like": "ones_like",
}
"""Functions and methods that are easily taken for each other."""
_DROPPED = ("detach", "clamp", "abs", "square")
"""Methods that give way to what they were called on."""
_FOR_EFFECT = (ast.Expr, ast.AugAssign, ast.Continue, ast.Break)
"""Statements that the program goes on without."""


@dataclass(frozen=True)
class Mutation:
    """One change of one module."""

    file: str
    line: int
    before: str
    """The changed line as it was, in the layout of `ast.unparse`."""
    after: str
    code: CodeType
    """The whole module, changed."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.before}  ->  {self.after}"


def unchanged(file: str, root: Path) -> Mutation:
    """The module as it is: what the tests must not notice."""
    return Mutation(file, 0, "", "", compile((root / file).read_text(), str(root / file), "exec"))


def mutations(file: str, root: Path) -> Iterator[Mutation]:
    """All mutations of a module, always in the same order.

    Left alone is what changes no result: annotations, texts, and what is raised or asserted.
    """
    source = (root / file).read_text()
    plain = ast.unparse(ast.parse(source)).splitlines()
    number = 0
    while True:
        change = _Change(number)
        tree = ast.fix_missing_locations(change.visit(ast.parse(source)))
        if not change.line:
            return
        changed = ast.unparse(tree).splitlines()
        before, after = next((old, new) for old, new in zip(plain, changed, strict=False) if old != new)
        yield Mutation(file, change.line, before.strip(), after.strip(), compile(tree, str(root / file), "exec"))
        number += 1


class _Change(ast.NodeTransformer):
    """Makes the change of that number, and remembers where; none if there are fewer."""

    def __init__(self, number: int) -> None:
        self._left, self.line = number, 0

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.Assert | ast.Raise | ast.JoinedStr | ast.arg | ast.Import | ast.ImportFrom):
            return node
        if isinstance(node, ast.AnnAssign):
            node.value = self.visit(node.value) if node.value else None  # type: ignore[assignment]
            return node
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            self._visit_definition(node)
            return node
        self.generic_visit(node)
        for other in _others(node):
            if not self._left and not self.line:
                self.line = node.lineno  # type: ignore[attr-defined]
                return ast.copy_location(other, node)
            self._left -= not self.line
        return node

    def _visit_definition(self, node: ast.FunctionDef | ast.ClassDef) -> None:
        """Defaults and body."""
        if isinstance(node, ast.FunctionDef):
            self.visit(node.args)
        node.body = [self.visit(statement) for statement in node.body]  # type: ignore[misc]


def _others(node: ast.AST) -> Iterator[ast.AST]:
    """What could stand in a node's place."""
    match node:
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
            yield ast.Constant(value - 1)
        case ast.Constant(value=float(value)):
            yield ast.Constant(value + 1)
        case ast.Compare(left, [operator], right):
            yield ast.Compare(left, [_COMPARISONS[type(operator)]()], right)
        case ast.BinOp(left, operator, right) if type(operator) in _ARITHMETIC:
            yield ast.BinOp(left, _ARITHMETIC[type(operator)](), right)
        case ast.BoolOp(operator, values):
            yield ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)
        case ast.UnaryOp(ast.Not() | ast.USub() | ast.Invert(), operand):
            yield operand
        case ast.IfExp(test, body, orelse):
            yield ast.IfExp(test, orelse, body)
        case ast.If(test, body, orelse):
            yield ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.Call(ast.Attribute(receiver, name), arguments, keywords):
            if name in _TWINS:
                yield ast.Call(ast.Attribute(receiver, _TWINS[name], ast.Load()), arguments, keywords)
            if name in _DROPPED:
                yield receiver
        case ast.Call(ast.Name(name), arguments, keywords) if name in _TWINS:
            yield ast.Call(ast.Name(_TWINS[name], ast.Load()), arguments, keywords)
        case ast.Expr(ast.Constant()):
            pass  # a docstring
        case ast.Assign(targets) if all(isinstance(target, ast.Attribute | ast.Subscript) for target in targets):
            yield ast.Pass()
        case _ if isinstance(node, _FOR_EFFECT):
            yield ast.Pass()
