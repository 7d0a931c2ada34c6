"""What the guides show works: recipe sections load, and links lead somewhere."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

from tracestill.recipe.egress import check_egress
from tracestill.recipe.generate import LocalTeacher
from tracestill.recipe.loading import load_recipe
from tracestill.recipe.models import ServedModel
from tracestill.recipe.schema import Recipe
from tracestill.recipe.yaml_values import read_yaml

GUIDE = ROOT / "docs" / "teachers.md"
SECTIONS = [
    yaml.safe_load(block)
    for block in re.findall(r"^```yaml\n(.*?)^```", GUIDE.read_text(), re.S | re.M)
]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md"))]


def whole(section: dict[str, Any], folder: Path) -> Path:
    """A guide's section in a recipe: the quickstart's other sections around it."""
    recipe = yaml.safe_load((ROOT / "recipes" / "quickstart.yaml").read_text())
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**recipe, **section}))
    return path


def named(section: dict[str, Any]) -> str:
    return str(section["generate"]["model"])


@pytest.mark.parametrize("section", SECTIONS, ids=named)
def test_a_section_of_the_guide_makes_a_recipe(section: dict[str, Any], tmp_path: Path) -> None:
    recipe = load_recipe(whole(section, tmp_path))
    check_egress(recipe)
    teacher = recipe.generate
    if isinstance(teacher, ServedModel) and "egress" in section:
        assert teacher.api_key_env, "another machine is asked with a key"
        without = load_recipe(whole({**section, "egress": {}}, tmp_path))
        with pytest.raises(ValueError, match=section["egress"]["allow"][0]):
            check_egress(without)


def test_a_section_on_any_page_is_one_of_a_recipe(tmp_path: Path) -> None:
    """Keys and values of every block of YAML that begins with a recipe's sections."""
    read = 0
    for page in PAGES:
        for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.S | re.M):
            section = read_yaml(block)
            if page == GUIDE or not isinstance(section, dict) or not section.keys() <= SECTION_KEYS:
                continue
            try:
                load_recipe(whole(within(section), tmp_path))
            except ValueError as error:
                pytest.fail(f"{page.name}: {error}\n{block}")
            read += 1
    assert read >= 20


SECTION_KEYS = set(Recipe.model_fields)


def within(section: dict[str, Any]) -> dict[str, Any]:
    """A page's section with the quickstart's other keys around it. Imported traces bring their
    problems, and have no teacher to ask.
    """
    recipe = yaml.safe_load((ROOT / "recipes" / "quickstart.yaml").read_text())
    served = {"engine": "openai", "model": "m", "base_urls": ["http://127.0.0.1:8000/v1"]}
    made = {**recipe, **section}
    for key in ("problems", "finetune", "evaluate", "generate"):
        base = served if "redact" in made["generate"] and key == "generate" else recipe.get(key, {})
        if key != "generate" or not made[key].keys() & {"engine", "model"}:
            made[key] = {**base, **made[key]}
    if made["generate"].get("engine") == "import":
        made["problems"] = {"heldout": made["problems"]["heldout"]}
        made["evaluate"] = {"models": ["student_before", "student_after"]}
    return made


def test_the_guide_has_each_kind_of_teacher() -> None:
    teachers = [section["generate"] for section in SECTIONS]
    assert {one.get("engine", "vllm") for one in teachers} == {"vllm", "openai"}
    assert any(len(one.get("base_urls", [])) > 1 and one.get("token_ids") for one in teachers)
    assert any(one.get("batch") for one in teachers)
    assert "importing.md" in GUIDE.read_text()


def test_engine_arguments_of_the_guide_are_vllms(tmp_path: Path) -> None:
    arguments = pytest.importorskip("vllm.engine.arg_utils", reason="needs vLLM")
    known = {field.name for field in dataclasses.fields(arguments.EngineArgs)}
    shown = set()
    for section in SECTIONS:
        teacher = load_recipe(whole(section, tmp_path)).generate
        if isinstance(teacher, LocalTeacher):
            shown |= teacher.engine_args.keys()
    assert "enable_expert_parallel" in shown
    assert shown <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name) if name else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            heads = re.findall(r"^#+ (.+)$", target.read_text(), re.M)
            slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor in slugs, f"{page.name}: {link}"
