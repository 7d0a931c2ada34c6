from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from tracestill.recipe.errors import RecipeError
from tracestill.recipe.filter_steps import DEFAULT, Near, Quality, Verify
from tracestill.recipe.loading import dump_recipe, load_recipe
from tracestill.recipe.paths import check_paths
from tracestill.recipe.schema import Recipe

RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
ON_A_HUB = pytest.mark.skipif(
    os.environ.get("HF_HUB_OFFLINE") != "0", reason="reads from a hub: `make test-hub`"
)
GOOD = """\
name: small
problems:
  train:
    - {source: reasoning_gym, family: chain_sum, size: 3}
  heldout:
    - source: reasoning_gym
      family: chain_sum
      size: 2
generate:
  model: ./teacher
  samples: 2
finetune:
  student: some/student
  template: plain.jinja
  stop: "<|end|>"
"""


def write(folder: Path, text: str, name: str = "r.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def mistakes(path: Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        check_paths(load_recipe(path, overrides))
    return str(caught.value)


def test_defaults_are_filled_and_come_back(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, GOOD))
    assert [step.name for step in recipe.filter.steps] == list(DEFAULT)
    assert recipe.generate.model == str(tmp_path / "teacher")
    assert recipe.finetune.student == "some/student"
    assert Recipe.model_validate(yaml.safe_load(dump_recipe(recipe))) == recipe


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("samples: 2", "sampels: 2", ["line 11", "generate.sampels", "did you mean samples?"]),
        ("samples: 2", "samples: 0", ["line 11", "generate.samples", "a number from 1"]),
        ("samples: 2", "samples: two", ["line 11", "a number from 1", "'two'"]),
        ("size: 2", "sise: 2", ["line 8", "problems.heldout.0.sise", "did you mean size?"]),
        ("source: reasoning_gym\n", "source: gym\n", ["line 6", "'reasoning_gym', 'file', 'hub'"]),
        ("  stop: \"<|end|>\"", "  think: maybe", ["finetune.think", "or 'none'"]),
        ("plain.jinja", "qwen4", ["no file", "own for the template", "chatml-think, llama-3"]),
        ("name: small", "name: a/b", ["line 1", "name"]),
        ("generate:\n", "generat:\n", ["line 9", "did you mean generate?", "generate is missing"]),
        ("problems:\n", "problems: [\n", ["not YAML"]),
        ("size: 2", "size: 2\n      buckets: {of: 4, keep: [4]}", ["buckets", "numbered 0 to 3"]),
        ("model: ./teacher", "engine: openai\n  model: m\n  base_urls: [http://localhost:1/v1]\n"
         "  batch: true", ["evaluate.models: leave out teacher"]),
    ],
)  # fmt: skip
def test_a_mistake_names_its_line_and_the_fix(
    tmp_path: Path, old: str, new: str, expected: list[str]
) -> None:
    assert old in GOOD
    text = mistakes(write(tmp_path, GOOD.replace(old, new)))
    for part in expected:
        assert part in text


def test_every_mistake_is_named_in_a_line(tmp_path: Path) -> None:
    bad = GOOD.replace("samples: 2", "sampels: 2").replace("size: 2", "size: -1")
    lines = mistakes(write(tmp_path, bad)).splitlines()
    assert len(lines) == 2
    assert all("r.yaml, line" in line for line in lines)


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("finetune.epochs", "many", "should be a valid number or 'auto' (it is 'many')"),
        ("finetune.epochs", "0", "should be greater than 0 or 'auto' (it is 0)"),
        ("finetune.lora.rank", "no", "should be a valid integer or 'auto' (it is 'no')"),
        ("finetune.micro_batch", "[1]", "should be a valid integer or 'auto' (it is [1])"),
        ("finetune.gradient_checkpointing", "7", "should be a valid boolean or 'auto' (it is 7)"),
    ],
)
def test_what_fits_none_of_a_keys_types_is_one_mistake(
    tmp_path: Path, key: str, value: str, line: str
) -> None:
    with pytest.raises(RecipeError) as told:
        load_recipe(write(tmp_path, GOOD), [f"{key}={value}"])
    assert str(told.value) == f"--set: {key}: input {line}"


def test_overrides_are_typed_and_checked(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    changes = ["generate.samples=5", "filter.keep=[correct, unverifiable]"]
    changes += ["problems.train.0.size=7", "filter.near_duplicates=null"]
    recipe = load_recipe(path, changes)
    assert recipe.generate.samples.max == 5
    steps = {step.name: step for step in recipe.filter.steps}
    assert steps["verify"].settings == Verify(keep=["correct", "unverifiable"])
    assert "near" not in steps
    assert recipe.problems.train[0].size == 7
    assert "did you mean epochs?" in mistakes(path, "finetune.epoch=3")
    assert "--set: generate.samples" in mistakes(path, "generate.samples=many")
    assert "write --set section.key=value" in mistakes(path, "generate.samples")
    assert "problems.train.5" in mistakes(path, "problems.train.5.size=1")


def test_on_and_no_are_words_and_true_is_none(tmp_path: Path) -> None:
    steps = "filter: {steps: [{near: {on: problem}}, {quality: {readable: false}}]}\n"
    recipe = load_recipe(write(tmp_path, GOOD + steps), ["finetune.packing=no"])
    assert recipe.filter.steps[0].settings == Near(on="problem")
    assert recipe.filter.steps[1].settings == Quality(readable=False)
    assert recipe.finetune.packing is False
    over = load_recipe(write(tmp_path, GOOD), ["filter.steps=[{near: {on: problem}}]"])
    assert over.filter.steps == recipe.filter.steps[:1]
    assert load_recipe(write(tmp_path, dump_recipe(over))).filter == over.filter


def test_a_list_of_steps_replaces_older_keys_that_a_recipe_extends(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(GOOD + "filter: {max_per_problem: 2, workers: 1}\n")
    recipe = load_recipe(write(tmp_path, "extends: base.yaml\nfilter: {steps: [form]}\n"))
    assert [step.name for step in recipe.filter.steps] == ["form"]
    assert recipe.filter.workers == 1
    inherited = load_recipe(tmp_path / "base.yaml", ["filter.steps=[verify]"])
    assert [step.name for step in inherited.filter.steps] == ["verify"]
    both = "extends: base.yaml\nfilter: {steps: [form], max_per_problem: 1}\n"
    assert "say it there, as `select`" in mistakes(write(tmp_path, both))


def test_extends_merges_and_keeps_each_files_paths(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    write(tmp_path / "base", GOOD)
    child = "extends: base/r.yaml\nname: child\ngenerate: {samples: 9}\n"
    recipe = load_recipe(write(tmp_path, child, "c.yaml"))
    assert (recipe.name, recipe.generate.samples.max) == ("child", 9)
    assert recipe.generate.model == str(tmp_path / "base" / "teacher")
    assert recipe.finetune.template == str(tmp_path / "base" / "plain.jinja")


def test_extends_in_a_circle_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "extends: b.yaml\n", "a.yaml")
    text = mistakes(write(tmp_path, "extends: a.yaml\n", "b.yaml"))
    assert "extends this recipe in turn" in text


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    text = mistakes(write(tmp_path, GOOD))
    assert f"generate.model: the model folder {tmp_path / 'teacher'} does not exist" in text
    assert "finetune.template: there is no file" in text
    assert "there is no recipe" in mistakes(tmp_path / "none.yaml")


def test_a_folder_written_like_a_hub_id_is_pointed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "some" / "student").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert "write ./some/student" in mistakes(write(tmp_path, GOOD))


def test_schema_of_the_checkout_is_up_to_date(root: Path) -> None:
    import json

    on_disk = json.loads((root / "recipes" / "schema.json").read_text())
    assert on_disk == Recipe.model_json_schema()


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_of_the_checkout_is_good(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    if recipe.finetune.template != "own":
        first = Path(recipe.finetune.template).read_text().splitlines()[0]
        assert first.startswith("{#-"), "a template says first what it is for"


def reads_a_hub(path: Path) -> bool:
    problems = load_recipe(path).problems
    return any(source.source == "hub" for source in [*problems.train, *problems.heldout])


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[pytest.mark.hub, ON_A_HUB] if reads_a_hub(path) else [])
        for path in RECIPES
    ],
    ids=lambda p: p.stem,
)
def test_every_recipe_of_the_checkout_has_its_problems(path: Path) -> None:
    from generate.problems import load_problems

    recipe = load_recipe(path)
    said = recipe.problems.instruction
    heldout, _ = load_problems(recipe.problems.heldout, instruction=said)
    train, _ = load_problems(recipe.problems.train, exclude=heldout, instruction=said)
    # Benchmarks of few problems, as AIME's 30, are answered several times.
    assert len(heldout) * recipe.evaluate.samples >= 300
    assert {p.id for p in train}.isdisjoint(p.id for p in heldout)
    assert all(said is None or p.prompt.endswith(said) for p in [*train, *heldout])


def test_a_template_is_the_students_own_a_shipped_one_or_a_file(tmp_path: Path) -> None:
    named = GOOD.replace("template: plain.jinja", "template: qwen2.5")
    recipe = load_recipe(write(tmp_path, named))
    assert recipe.finetune.template == str(ROOT / "recipes" / "templates" / "qwen2.5.jinja")
    for text in ("  template: own\n", ""):
        own = load_recipe(write(tmp_path, GOOD.replace("  template: plain.jinja\n", text)))
        assert own.finetune.template == "own"
    assert "finetune.template" not in mistakes(tmp_path / "r.yaml")
    (tmp_path / "plain.jinja").write_text("")  # without a contract it is tried
    assert "finetune" not in mistakes(write(tmp_path, GOOD))
    (tmp_path / "plain.yaml").write_text("think: maybe\nstop: <|end|>\n")
    assert "plain.yaml: think: " in mistakes(write(tmp_path, GOOD))


def test_a_run_is_called_as_its_file_where_the_recipe_names_it_not(tmp_path: Path) -> None:
    text = GOOD.replace("name: small\n", "")
    assert load_recipe(write(tmp_path, text, "first-try.yaml")).name == "first-try"
    assert load_recipe(write(tmp_path, text, "first try.yaml")).name == "recipe"
    assert load_recipe(write(tmp_path, f"name: other\n{text}", "a.yaml")).name == "other"


def test_a_dumped_recipe_needs_no_recipe_that_it_extended(tmp_path: Path) -> None:
    (tmp_path / "bases").mkdir()
    write(tmp_path / "bases", GOOD, "base.yaml")
    recipe = load_recipe(write(tmp_path, "extends: bases/base.yaml\nname: other\n"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    again = load_recipe(write(elsewhere, dump_recipe(recipe)))
    assert again == recipe.model_copy(update={"extends": None})
