"""The generated pages: they have every key, option, name and step, and say what the source says."""

from __future__ import annotations

import importlib
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from filter.advice import why_nothing_is_kept
from tracestill.recipe.filter_steps import DEFAULT, Step
from tracestill.recipe.schema import Recipe
from website import assemble, command_line, filter_steps, python_api, recipe_keys
from website.check import mistakes
from website.messages import covers, explained, raised, written

WRONG = ROOT / "docs" / "when-it-goes-wrong.md"


# -- when it goes wrong --------------------------------------------------------------------------


def test_every_error_line_is_explained() -> None:
    lines = explained(WRONG.read_text())
    messages = raised()
    assert len(messages) > 400, "the source is read"
    lacking = [
        f"{one.file}:{one.line}: {one.text}"
        for one in messages
        if not any(covers(line, one.text) for line in lines)
    ]
    assert lacking == [], f"explain these lines in {WRONG.name}"


def test_no_line_is_explained_that_nothing_says() -> None:
    texts = "\n".join(written())
    stale = [line for line in explained(WRONG.read_text()) if line not in texts]
    assert stale == [], f"these lines of {WRONG.name} are in the source no more"


def test_a_short_beginning_does_not_stand_for_other_lines() -> None:
    assert covers("finetune.template: …", "finetune.template: …")
    assert not covers("finetune.template: …", "finetune.template: it leaves … out")
    assert covers("it leaves out what the user says", "…: it leaves out what the user says; name …")
    assert not covers("is no run", "… is no run: it has no …")


# -- which filter does what ----------------------------------------------------------------------


def test_every_step_is_told_with_its_example() -> None:
    assert set(filter_steps.TOLD) == set(Step.model_fields)
    for name, told in filter_steps.TOLD.items():
        assert bool(told.given) != bool(told.without), name
        if told.given:
            outcomes = [what.partition(":")[0] for _, what in filter_steps.filtered(name)]
            assert "kept" in outcomes, f"{name}: nothing of its example passes"
            dropped = [what.strip("`") for what in outcomes if what != "kept"]
            assert dropped, f"{name}: nothing of its example is dropped"
            for reason in dropped:  # a reason that the filter knows advice for, or a duplicate's
                advice = why_nothing_is_kept({reason: 1}, 1)
                known = "a pattern of your own" not in advice
                assert known or reason in (
                    "exact_duplicate", "near_duplicate", "over_cap", "pattern",
                ), reason  # fmt: skip


def test_the_page_of_steps_is_what_the_steps_do() -> None:
    page = ROOT / "docs" / "which-filter-does-what.md"
    made = filter_steps.page()
    assert page.read_text() == made, (
        "write it anew: python -m website.filter_steps > docs/which-filter-does-what.md"
    )
    places = [made.index(f"\n## {name}\n") for name in DEFAULT]
    assert places == sorted(places)


# -- the reference -------------------------------------------------------------------------------


def every_key(model: dict[str, Any]) -> list[tuple[str, str]]:
    """The keys of every mapping in the schema, with its title."""
    found = [("", key) for key in model["properties"]]
    for name, one in model["$defs"].items():
        keys = recipe_keys.mapping(one).get("properties", {})
        found += [(name, key) for key in keys]
    return found


def test_the_reference_has_every_key_with_its_words() -> None:
    schema = Recipe.model_json_schema()
    page = recipe_keys.page()
    assert json.loads((ROOT / "recipes" / "schema.json").read_text()) == schema
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) == len(every_key(schema))
    wordless = [row for row in rows if row.rstrip(" |").count(" | ") < 3]
    assert wordless == [], "give these keys a docstring"
    for group in recipe_keys.groups():
        assert f"{{ #{group.anchor} }}" in page or group.path.count(".") > 1, group.path


def test_the_reference_has_every_command_and_option() -> None:
    page = command_line.page()
    for name, command in command_line.commands().items():
        start = page.index(f"\n## {name}\n")
        section = page[start : page.find("\n## ", start + 1)]
        assert (command.help or "").split()[0] in section
        for option in command_line.options(command):
            if option.startswith("--") and option not in ("--help", "--debug"):
                assert f"`{option}" in section, f"{name} {option}"


def test_what_the_python_reference_names_has_words() -> None:
    page = python_api.page()
    for one in python_api.objects():
        assert one.docstring, one.path
        module, _, name = python_api.imported(one).rpartition(".")
        assert hasattr(importlib.import_module(module), name)
        assert f"### `{module}.{name}`" in page
    for name in ("kept", "drops", "funnel", "show", "results"):
        assert f"{{ #tracestill-explore-load-run-{name} }}" in page


# -- the site ------------------------------------------------------------------------------------


def test_the_site_leads_to_every_page() -> None:
    settings = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
    named = set(in_order(settings["nav"]))
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert there - named == set(), "name these pages in zensical.toml"
    assert set(assemble.GENERATED) <= named


def in_order(entries: list[Any]) -> list[str]:
    """The pages of a navigation."""
    found = []
    for entry in entries:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            found += in_order(value) if isinstance(value, list) else [value]
    return found


def test_links_in_code_are_left_as_they_are() -> None:
    text = "[a](b.md) `[c](d.md)`\n\n```\n[e](f.md)\n```\n[g](h.md)"
    assert assemble.links(text) == ["b.md", "h.md"]
    changed = assemble.with_links(text, str.upper)
    assert changed == text.replace("b.md", "B.MD").replace("h.md", "H.MD")


def test_a_link_that_leads_nowhere_is_refused() -> None:
    page = ROOT / "docs" / "filter.md"
    assert assemble.target_of(page, "verify.md#x") == ROOT / "docs" / "verify.md"
    assert assemble.target_of(page, "https://example.org/a") is None
    with pytest.raises(ValueError, match=r"docs/filter.md: the link nothing.md leads nowhere"):
        assemble.target_of(page, "nothing.md")


def test_a_built_page_may_fetch_nothing_from_another_host(tmp_path: Path) -> None:
    (tmp_path / "there.css").write_text("")
    (tmp_path / "index.html").write_text(
        '<link rel="stylesheet" href="there.css"><link rel="canonical" href="https://example.org">'
        '<script src="https://cdn.example.org/a.js"></script><img src="//cdn.example.org/b.png">'
        '<a href="https://example.org">out</a><a href="gone.yaml">gone</a><a href="#x">here</a>'
    )
    assert mistakes(tmp_path) == [
        "index.html: fetches https://cdn.example.org/a.js from another host",
        "index.html: fetches //cdn.example.org/b.png from another host",
        "index.html: the link gone.yaml leads nowhere",
    ]
