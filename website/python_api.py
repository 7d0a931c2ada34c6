"""The page of the Python interface, from the docstrings: the source is read, not imported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import griffe

ROOT = Path(__file__).parent.parent
HEAD = """\
# Python

What notebooks and scripts may use, made from the docstrings. All else is internal, and changes
without a word.
"""
# From where a name is imported, if not from the module that defines it.
IMPORTED = {
    "tracestill.explore.load": "tracestill",
    "tracestill.records.schema": "tracestill.records",
    "filter.verify.grading": "filter.verify",
}
# A chapter, what it is for, and the module with the names in it; none means all that are public.
CHAPTERS: list[tuple[str, str, list[tuple[str, list[str]]]]] = [
    (
        "Look at a run",
        '`import tracestill`, then `tracestill.load_run("runs/quickstart")`. Tables are pandas\' '
        "`DataFrame`s, read when they are asked for.",
        [("tracestill.explore.load", ["load_run", "Run"])],
    ),
    (
        "Recipes and runs",
        "Read a recipe, and run it as the command does.",
        [
            ("tracestill.recipe.loading", ["load_recipe", "dump_recipe"]),
            ("tracestill.recipe.paths", ["check_paths"]),
            ("tracestill.run.pipeline", ["run_recipe"]),
        ],
    ),
    (
        "Verify answers",
        "A verifier is a function of a problem and the text after the reasoning. How an answer is "
        "found and compared is told by [verifying](../docs/verify.md).",
        [
            ("filter.verify", ["Answer", "verify", "verify_many"]),
            ("filter.verify.grading", ["Grade", "Grader"]),
        ],
    ),
    (
        "Filter traces",
        "The steps of a recipe's section `filter` on traces of your own.",
        [("filter.filtering", ["filter_traces", "filter_table", "FilterResult"])],
    ),
    (
        "A teacher's engine",
        "What an engine of your own has to have. "
        "[Contributing](../CONTRIBUTING.md#where-a-new-goes) says where it goes.",
        [("generate.engine", ["Engine", "Request", "Response", "Partial", "Usage"])],
    ),
    (
        "Records",
        "What lies in the tables of a run: a row is one record.",
        [("tracestill.records.schema", [])],
    ),
]


def page() -> str:
    """The page in Markdown."""
    parts = [HEAD]
    for title, said, modules in CHAPTERS:
        parts += [f"## {title}\n", f"{said}\n"]
        for module, names in modules:
            for one in _chosen(module, names):
                parts += _described(one, 3)
    return "\n".join(parts)


def objects() -> Iterator[griffe.Object]:
    """All that the page describes."""
    for _, _, modules in CHAPTERS:
        for module, names in modules:
            yield from _chosen(module, names)


def imported(one: Any) -> str:
    """A name with the module that it is imported from."""
    module = str(one.module.path)
    return f"{IMPORTED.get(module, module)}.{one.name}"


def _chosen(module: str, names: list[str]) -> Iterator[griffe.Object]:
    import griffe

    found: Any = griffe.load(module, search_paths=[ROOT], docstring_parser="google")
    for name in names or [one for one, member in found.members.items() if _is_own(member)]:
        yield found[name]


def _is_own(member: Any) -> bool:
    return not member.is_alias and member.is_class and member.is_public


def _described(one: Any, depth: int) -> Iterator[str]:
    """A function or class as Markdown, with a class's public methods below it."""
    name = imported(one) if depth == 3 else one.name
    anchor = one.path.lower().replace(".", "-").replace("_", "-")
    yield f"{'#' * depth} `{name}` {{ #{anchor} }}\n"
    yield f"```python\n{_signature(one)}\n```\n"
    yield from _docstring(one)
    if one.is_class:
        for member in one.members.values():
            if member.is_alias or not member.is_public or not member.docstring:
                continue
            if member.is_function or "property" in member.labels:
                yield from _described(member, depth + 1)


def _signature(one: Any) -> str:
    if one.is_class:
        fields = [
            f"    {name}: {member.annotation}" + (f" = {member.value}" if member.value else "")
            for name, member in one.members.items()
            if member.is_attribute and member.annotation and "property" not in member.labels
        ]
        bases = f"({', '.join(map(str, one.bases))})" if one.bases else ""
        return "\n".join([f"class {one.name}{bases}:", *(fields or ["    ..."])])
    if one.is_attribute:
        value = f" = {one.value}" if one.value and "property" not in one.labels else ""
        return f"{one.name}: {one.annotation}{value}" if one.annotation else f"{one.name}{value}"
    given = []
    star = False
    for parameter in one.parameters:
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind and parameter.kind.value == "keyword-only" and not star:
            given.append("*")
            star = True
        text = (
            f"{parameter.name}: {parameter.annotation}" if parameter.annotation else parameter.name
        )
        given.append(f"{text} = {parameter.default}" if parameter.default else text)
    line = f"{one.name}({', '.join(given)}) -> {one.returns}"
    if len(line) <= 88:
        return line
    return "\n".join([f"{one.name}(", *(f"    {text}," for text in given), f") -> {one.returns}"])


def _docstring(one: Any) -> Iterator[str]:
    if one.docstring is None:
        return
    for section in one.docstring.parsed:
        if section.kind.value == "text":
            yield f"{section.value}\n"
        elif section.kind.value == "raises":
            for raised in section.value:
                said = " ".join(raised.description.split())
                yield f"Raises `{raised.annotation}`: {said}\n"
