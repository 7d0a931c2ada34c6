"""The model cards of a finished run, as the hub would read them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from conftest import run_tracestill
from huggingface_hub import ModelCard

from tracestill.explore.cards import write_cards
from tracestill.explore.load import load_run
from tracestill.recipe.schema import Recipe
from tracestill.records import folder_fingerprint


def recipe_of(run: Path) -> Recipe:
    return Recipe.model_validate(load_run(run).recipe)


def test_a_card_tells_how_the_student_was_made_and_how_good_it_is(finished: Path) -> None:
    card = ModelCard.load(finished / "finetune" / "merged" / "README.md")
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "text-generation"
    assert card.data.base_model is None  # a folder of this machine says nothing on the hub
    assert card.data.license is None
    run = load_run(finished)
    result = run.summary["evaluate"]["student_after"]
    low, high = result["ci95"]
    assert (
        f"| **this student** | {result['pass_at_1']:.1%} | {low:.1%} to {high:.1%} |" in card.text
    )
    kept = run.manifest("filter")
    assert kept
    assert f"{kept.rows_out} of {kept.rows_in}; dropped: " in card.text
    assert f"torch {run.provenance['versions']['torch']}" in card.text
    assert run.provenance["git"]["revision"] in card.text
    assert "<|user|>What is 2 + 3?<|assistant|><think>\n" in card.text
    assert str(finished.parent) not in card.text
    assert "vllm serve PATH/merged" in card.text


def test_the_adapters_card_says_how_vllm_loads_it(finished: Path) -> None:
    card = ModelCard.load(finished / "finetune" / "adapter" / "README.md")
    assert card.data.library_name == "peft"
    assert "--enable-lora --max-lora-rank 32" in card.text
    assert "--generation-config PATH/adapter" in card.text


def test_a_hub_student_is_the_cards_base_model(copied: Path) -> None:
    recipe = recipe_of(copied)
    tuned = recipe.finetune.model_copy(update={"student": "Qwen/Qwen2.5-1.5B"})
    write_cards(recipe.model_copy(update={"finetune": tuned}), copied, evaluated=False)
    for part, relation in (("merged", "finetune"), ("adapter", "adapter")):
        card = ModelCard.load(copied / "finetune" / part / "README.md")
        assert card.data.base_model == "Qwen/Qwen2.5-1.5B"
        assert yaml.safe_load(card.data.to_yaml())["base_model_relation"] == relation
        assert "Not evaluated yet." in card.text


def test_the_cards_of_a_student_that_sees_load_all_of_it(copied: Path) -> None:
    config = copied / "finetune" / "merged" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "text_config": {}}))
    write_cards(recipe_of(copied), copied, evaluated=False)
    for part in ("merged", "adapter"):
        card = ModelCard.load(copied / "finetune" / part / "README.md")
        assert "from transformers import AutoModelForImageTextToText as AutoModel" in card.text
        assert "AutoPeftModel" not in card.text


@pytest.mark.slow
def test_the_card_is_written_when_the_student_is_and_completed_by_the_evaluation(
    recipe: Path, copied: Path
) -> None:
    merged = copied / "finetune" / "merged"
    content = folder_fingerprint(merged)
    full = (merged / "README.md").read_text()
    options = ("--from", "finetune", "--to", "finetune", "--set", "finetune.epochs=1")
    assert run_tracestill("run", recipe, "--out", copied, *options).returncode == 0
    # The evaluation in the folder is another student's.
    assert "Not evaluated yet." in (merged / "README.md").read_text()
    done = run_tracestill("run", recipe, "--out", copied, "--to", "finetune")
    assert done.returncode == 0, done.stderr
    assert folder_fingerprint(merged) == content, "a card is no part of what a model is"
    results = full[full.index("## Results") : full.index("## How to run it")]
    assert results in (merged / "README.md").read_text()


@pytest.mark.parametrize("text", ["", "changed by hand"])
def test_a_changed_card_changes_nothing_about_reuse(recipe: Path, copied: Path, text: str) -> None:
    (copied / "finetune" / "merged" / "README.md").write_text(text)
    done = run_tracestill("run", recipe, "--out", copied)
    assert done.returncode == 0, done.stderr
    assert all(entry["reused"] for entry in load_run(copied).summary["stages"])
