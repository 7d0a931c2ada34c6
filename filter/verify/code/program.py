"""Make a program of the blocks of code in an answer."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence

from filter.verify.code.blocks import parse

_READS = re.compile(r"\binput\s*\(|\bstdin\b|\bopen\(0|\bos\.read\b|\bfileinput\b")
_FUTURE = re.compile(r"^from __future__ .*\n", re.MULTILINE)
_RETURNS = re.compile(r"^\s*(?:return|yield)\b", re.MULTILINE)
_SILENT = (
    ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign,
    ast.AnnAssign, ast.AugAssign,
)  # fmt: skip


def whole_program(blocks: Sequence[str]) -> str:
    """The program in the blocks of an answer to a problem with inputs and outputs: the last block
    that does something with its input, else the last that does something, after those
    definitions in other blocks that it needs. So neither a function that is explained in a block
    of its own is lost, nor is an example of its use taken for the program.
    """
    trees = [parse(block) for block in blocks] if len(blocks) > 1 else []
    if not trees or isinstance(trees[-1], SyntaxError):
        return blocks[-1]
    programs = [
        _after(_definitions(tree, zip(blocks, trees, strict=True)), block)
        for block, tree in zip(blocks, trees, strict=True)
        if isinstance(tree, ast.Module) and not all(map(_silent, tree.body))
    ]
    reading = [program for program in programs if _READS.search(program)]
    return (reading or programs or blocks)[-1]


def _after(definitions: str, block: str) -> str:
    """A block after definitions, which `from __future__` must not follow."""
    return definitions + _FUTURE.sub("", block) if definitions else block


def _silent(statement: ast.stmt) -> bool:
    """Whether a statement only defines something, or is a docstring."""
    docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return docstring or isinstance(statement, _SILENT)


def _definitions(
    program: ast.Module, blocks: Iterable[tuple[str, ast.Module | SyntaxError]]
) -> str:
    """The source of those definitions in blocks that a program needs and does not hold."""
    others = [
        (statement, _defined(statement), block)
        for block, tree in blocks
        if isinstance(tree, ast.Module) and tree is not program
        for statement in tree.body
        if _silent(statement)
    ]
    own = {name for statement in program.body for name in _defined(statement)}
    needed = _used(program) - own
    chosen: set[int] = set()
    while new := {
        number
        for number, (_, names, _) in enumerate(others)
        if number not in chosen and not names.isdisjoint(needed)
    }:
        chosen |= new
        needed = needed.union(*(_used(others[number][0]) - own for number in new))
    return "".join(_source(*others[number][::2]) for number in sorted(chosen))


def _defined(statement: ast.stmt) -> set[str]:
    """The names that a statement defines in its module."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    names: set[str] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def _used(tree: ast.AST) -> set[str]:
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
    return {node.id for node in nodes if isinstance(node.ctx, ast.Load)}


def _source(statement: ast.stmt, block: str) -> str:
    decorators = getattr(statement, "decorator_list", [])
    begin = min(node.lineno for node in (statement, *decorators))
    return "\n".join(block.split("\n")[begin - 1 : statement.end_lineno]) + "\n"


def with_prompt(prompt: str, blocks: Sequence[str], name: str) -> list[str]:
    """What to load, in order, for a prompt that ends in the head of the function `name`: what
    precedes that head, whose imports and helpers are needed, and the blocks. Where none of them
    defines the function, the last is its body.
    """
    head = re.search(rf"^(?:async\s+)?def\s+{re.escape(name)}\b", prompt, re.MULTILINE)
    defines = re.compile(
        rf"^\s*(?:async\s+)?def\s+{re.escape(name)}\b|^{re.escape(name)}\s*=", re.MULTILINE
    )
    if head is None or any(map(defines.search, blocks)):
        before = prompt[: head.start()] if head else prompt
        return [*([before] if isinstance(parse(before), ast.Module) else []), *blocks]
    body = next(filter(_RETURNS.search, reversed(blocks)), blocks[-1])
    indented = "\n".join(f"    {line}" for line in body.split("\n"))
    for whole in (prompt + body, prompt + indented, f"{prompt}    {body}"):
        tree = parse(whole)
        if isinstance(tree, ast.Module) and not any(isinstance(s, ast.Return) for s in tree.body):
            return [whole]
    return [body]
