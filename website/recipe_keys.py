"""The page of all recipe keys, from the recipes' JSON schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tracestill.recipe.schema import Recipe

HEAD = """\
# Recipe keys

Every key of a recipe, with its type, its default and its meaning. This page is made from the
schema that checks recipes (`tracestill schema` prints it), so it is that of this version. What
the keys are for is told by the [guides](../docs/recipes.md); what a changed key makes again by
[resuming](../docs/resuming.md#what-is-reused).

A key in a section is named with dots, as `--set` takes it: `--set finetune.lora.rank=8`. Entries
of a list go by number: `--set problems.train.0.size=20`. Write `null` for a key to have none.
"""


@dataclass(frozen=True, slots=True)
class Group:
    """A mapping in a recipe: the path that leads to it, what tells it from others that may stand
    there, and its schema.
    """

    path: str
    kind: str
    schema: dict[str, Any]
    depth: int

    @property
    def title(self) -> str:
        """The heading."""
        return f"`{self.path}`" + (f" with `{self.kind}`" if self.kind else "")

    @property
    def anchor(self) -> str:
        """The heading's anchor."""
        return _SIGNS.sub("-", f"{self.path}-{self.kind}".lower()).strip("-")


_SIGNS = re.compile(r"[^a-z0-9_]+")


def page() -> str:
    """The page in Markdown."""
    schema = Recipe.model_json_schema()
    found = list(groups())
    first: dict[str, Group] = {}
    shown: set[str] = set()
    again: list[str] = []
    parts = [HEAD, "## Top level\n", _table(schema, "", found, schema["$defs"])]
    for group in found:
        # What a mapping that was described before holds was described with it.
        if group.anchor in shown or group.path.startswith(tuple(again)):
            continue
        shown.add(group.anchor)
        parts.append(f"{'#' * min(2 + group.depth, 4)} {group.title} {{ #{group.anchor} }}\n")
        name = str(group.schema["title"])
        if name in first:
            same = first[name]
            again.append(f"{group.path}.")
            parts.append(f"The same keys as [{same.title}](#{same.anchor}).\n")
            continue
        first[name] = group
        if said := group.schema.get("description"):
            parts.append(f"{_line(said)}\n")
        if group.schema.get("properties"):
            parts.append(_table(group.schema, group.path, found, schema["$defs"]))
    return "\n".join(parts)


def groups() -> Iterator[Group]:
    """Every mapping of a recipe below its top level, in order."""
    schema = Recipe.model_json_schema()
    yield from _below("", schema, schema["$defs"], 0)


def _below(path: str, schema: dict[str, Any], defs: dict[str, Any], depth: int) -> Iterator[Group]:
    for key, value in schema.get("properties", {}).items():
        here = f"{path}.{key}" if path else key
        names = list(dict.fromkeys(_references(value)))
        # A list of problems to train on has the same sources as that of the held-out ones.
        several = len([name for name in names if "properties" in mapping(defs[name])]) > 1
        for name in names:
            made = mapping(defs[name])
            yield Group(here, _kind(made) if several else "", made, depth)
            yield from _below(here, made, defs, depth + 1)


def _references(value: Any) -> Iterator[str]:
    """The names of the schemas that a key's own mentions."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"].rpartition("/")[2]
        for name, inner in value.items():
            if name != "default":
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def mapping(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a mapping, also where its name alone may stand for it."""
    options = [one for one in schema.get("anyOf", ()) if one.get("type") == "object"]
    return options[0] if options else schema


def _kind(schema: dict[str, Any]) -> str:
    """The key that tells one of several mappings from the others."""
    for key in ("source", "engine"):
        value = schema["properties"].get(key, {})
        if "const" in value:
            return f"{key}: {value['const']}"
    return str(schema["title"])


def _table(schema: dict[str, Any], path: str, found: list[Group], defs: dict[str, Any]) -> str:
    required = schema.get("required", ())
    lines = ["| key | type | default | |", "| --- | --- | --- | --- |"]
    for key, value in schema["properties"].items():
        here = f"{path}.{key}" if path else key
        default = "required" if key in required else _default(value)
        kind = _type(value, [group for group in found if group.path == here])
        lines.append(f"| `{key}` | {kind} | {default} | {said_of(value, defs)} |")
    return "\n".join(lines) + "\n"


def said_of(value: dict[str, Any], defs: dict[str, Any]) -> str:
    """A key's words, else those of the mapping that it holds."""
    if "description" in value:
        return _line(value["description"])
    if "const" in value:
        return "Says which of these sections it is."
    names = list(dict.fromkeys(_references(value)))
    if len(names) > 1:
        return "One of several: see each."
    return _line(mapping(defs[names[0]]).get("description", "")) if names else ""


def _type(value: dict[str, Any], leads_to: list[Group]) -> str:
    if "$ref" in value:
        links = [
            f"[{group.kind or 'mapping'}](#{group.anchor})"
            for group in leads_to
            if value["$ref"].endswith(f"/{group.schema['title']}")
        ]
        return links[0] if links else "mapping"
    for several in ("anyOf", "oneOf"):
        if several in value:
            options = [one for one in value[several] if one.get("type") != "null"]
            kinds = [_type(one, leads_to) for one in options]
            return " or ".join(dict.fromkeys(kinds))
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    if value.get("type") == "array":
        inner = value.get("items", value.get("prefixItems", [{}])[0])
        return f"list: {_type(inner, leads_to)}"
    if isinstance(value.get("additionalProperties"), dict):
        return f"mapping of names to: {_type(value['additionalProperties'], leads_to)}"
    words = {
        "string": "text", "integer": "whole number", "number": "number",
        "boolean": "`true` or `false`", "object": "mapping",
    }  # fmt: skip
    return f"{words.get(str(value.get('type')), 'any')}{_bounds(value)}"


def _bounds(value: dict[str, Any]) -> str:
    said = [
        f"{word} {value[name]:g}"
        for name, word in (
            ("minimum", "from"), ("exclusiveMinimum", "above"),
            ("maximum", "to"), ("exclusiveMaximum", "below"),
        )
        if name in value
    ]  # fmt: skip
    return f" {', '.join(said)}" if said else ""


def _default(value: dict[str, Any]) -> str:
    if "default" not in value:
        return ""
    default = value["default"]
    if isinstance(default, list) and default and all(isinstance(one, dict) for one in default):
        default = [next(iter(one)) for one in default]  # the filter's steps, by their names
        return f"`[{', '.join(default)}]`"
    if isinstance(default, dict) and default:
        return "as its own keys say"
    text = json.dumps(default, ensure_ascii=False)
    if isinstance(default, str):
        text = default or '""'
    return f"`{text}`"


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
