"""Tests that are code: HumanEval's `check`, MBPP's asserts, EvalPlus's inputs."""

from __future__ import annotations

import ast
import builtins
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
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


# As EvalPlus 0.3.1 compares (https://github.com/evalplus/evalplus): equal, or, where floats alone
# are expected or the problem has an `atol`, of the same type and near.
_EVALPLUS = """\
import copy, json, math
reference, inputs, atol = {{}}, json.loads({inputs!r}), {atol!r}
exec({solution!r}, reference)

def near(found, wanted, most):
    if isinstance(wanted, (list, tuple)):
        return len(found) == len(wanted) and all(near(*pair, most) for pair in zip(found, wanted))
    return abs(found - wanted) <= most + 1e-7 * abs(wanted)

def same(found, wanted):
    values = wanted if isinstance(wanted, (list, tuple)) and wanted else [wanted]
    most = atol or (1e-6 if all(isinstance(value, float) for value in values) else 0)
    return found == wanted or most and type(found) is type(wanted) and near(found, wanted, most)

def check(candidate):
    for arguments in inputs:
        wanted = reference[{name!r}](*copy.deepcopy(arguments))
        found = candidate(*copy.deepcopy(arguments))
        assert {oracle}, (arguments, found, wanted)
"""


@cache
def _evalplus() -> dict[str, Any]:
    import yaml

    known: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("evalplus.yaml").read_text())
    return known


def evalplus_test(row: Mapping[str, Any]) -> str:
    """The test of a row of HumanEval+ or MBPP+ as EvalPlus publishes them: what
    `canonical_solution` returns for each of `base_input` and `plus_input`.

    Raises:
        ValueError: something of that is missing, or EvalPlus judges the task by more than that.

    """
    solution, name, task = (row.get(k) for k in ("canonical_solution", "entry_point", "task_id"))
    if not isinstance(solution, str) or not isinstance(name, str):
        raise ValueError("the reference has `plus_input`, but no canonical_solution or entry_point")
    known = _evalplus()
    if name in known["judged_by_functions"]:
        raise ValueError(f"EvalPlus judges `{name}` by an oracle of its own, which is not run")
    if str(task).removeprefix("Mbpp/") in map(str, known["called_with_other_inputs"]):
        raise ValueError(
            f"EvalPlus calls {task} with tuples, sets or complex numbers, which its row has as "
            "lists or texts: take the `test` of evalplus/mbppplus, which is code"
        )
    return _EVALPLUS.format(
        inputs=json.dumps([*(row.get("base_input") or ()), *row["plus_input"]]),
        atol=float(row.get("atol") or 0),
        solution=f"{row.get('prompt') or ''}{solution}",
        name=name,
        oracle=known["oracles"].get(name, "same(found, wanted)"),
    )
