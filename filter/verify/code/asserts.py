"""Tests that are code: HumanEval's `check`, MBPP's asserts, EvalPlus's inputs."""

from __future__ import annotations

import ast
import builtins
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from filter.verify.code.blocks import parse


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckTests:
    """A test that is code, as in HumanEval: it defines `check(candidate)`, or calls the function
    by its name.
    """

    source: str
    name: str
    prompt: str


def tested_function(source: str) -> str | None:
    """The function that asserts call and that they neither define nor import; None where there is
    none.
    """
    tree = parse(source)
    nodes = [] if isinstance(tree, SyntaxError) else list(ast.walk(tree))
    known = set(dir(builtins))
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            known.add(node.name)
        elif isinstance(node, ast.alias):
            known.add(node.asname or node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            known.add(node.id)
    called = (node.func for node in nodes if isinstance(node, ast.Call))
    names = (function.id for function in called if isinstance(function, ast.Name))
    return next((name for name in names if name not in known), None)


# As EvalPlus compares (https://github.com/evalplus/evalplus): equal, or near where floats are
# expected, to 1e-6 unless the problem has an `atol` of its own, and to 1e-7 of the value.
_EVALPLUS = """\
import copy, json, math
reference, inputs, atol = {{}}, json.loads({inputs!r}), {atol!r}
exec({solution!r}, reference)

def same(found, wanted):
    if isinstance(wanted, (list, tuple)):
        return (
            isinstance(found, (list, tuple)) and len(found) == len(wanted)
            and all(map(same, found, wanted))
        )
    if atol or isinstance(wanted, float):
        if isinstance(wanted, (int, float)) and isinstance(found, (int, float)):
            return math.isclose(found, wanted, rel_tol=1e-7, abs_tol=atol or 1e-6) or (
                found != found and wanted != wanted
            )
    return found == wanted

def check(candidate):
    for arguments in inputs:
        wanted = reference[{name!r}](*copy.deepcopy(arguments))
        found = candidate(*copy.deepcopy(arguments))
        assert same(found, wanted), (arguments, found, wanted)
"""


def evalplus_test(row: Mapping[str, Any]) -> str:
    """The test of a row of HumanEval+ or MBPP+ as EvalPlus publishes them: what
    `canonical_solution` returns for each of `base_input` and `plus_input`.

    Raises:
        ValueError: something of that is missing.

    """
    solution, name = row.get("canonical_solution"), row.get("entry_point")
    if not isinstance(solution, str) or not isinstance(name, str):
        raise ValueError("the reference has `plus_input`, but no canonical_solution or entry_point")
    inputs = [*(row.get("base_input") or ()), *row["plus_input"]]
    return _EVALPLUS.format(
        inputs=json.dumps(inputs),
        atol=float(row.get("atol") or 0),
        solution=f"{row.get('prompt') or ''}{solution}",
        name=name,
    )
