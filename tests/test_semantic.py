"""The filter's step `semantic`: likes by the embeddings of a static model."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_filter import filtered, problem, trace

from filter.embedding import embed_all, load_embedder, similar_twins
from tracestill.recipe.errors import RecipeError
from tracestill.recipe.loading import load_recipe
from tracestill.recipe.paths import check_paths

WORDS = {
    "[UNK]": (0, 0, 0), "how": (1, 0, 0), "many": (1, 0, 0), "what": (1, 0, 0), "number": (1, 0, 0),
    "apples": (0, 1, 0), "fruits": (0, 1, 0.1), "pears": (0, 1, 0.2), "train": (0, 0, 1),
    "speed": (0, 0.2, 1), "of": (0.1, 0.1, 0.1), "left": (0.1, 0.1, 0.1),
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static model of a few words, whose vectors say which are alike."""
    model2vec = pytest.importorskip("model2vec", reason="needs the extra `semantic`")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, "[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp_path_factory.mktemp("static")
    model2vec.StaticModel(np.array(list(WORDS.values()), np.float32), words).save_pretrained(folder)
    return folder


def steps(model: Path, **settings: Any) -> list[Any]:
    return [{"semantic": {"model": str(model), **settings}}]


def test_one_of_like_problems_stays(model: Path) -> None:
    asked = [
        "how many apples left",
        "what number of fruits",  # other words, the same meaning
        "speed of train",
        "how many apples left 3",  # a number that the first has not
    ]
    problems = [problem(text) for text in asked]
    traces = [trace(one, sample) for one in problems for sample in range(2)]
    found = filtered(traces, problems, steps=steps(model))
    assert {drop.trace_id for drop in found.drops} == {f"{problems[1].id}-{n}" for n in range(2)}
    assert found.dropped == {"semantic_duplicate": 2}
    assert found.drops[0].detail.startswith(f"its problem is like {problems[0].id}, similarity 0.9")
    stricter = filtered(traces, problems, steps=steps(model, threshold=1.0))
    assert stricter.dropped == {}


def test_of_like_traces_the_preferred_one_stays(model: Path) -> None:
    one, other = problem("What is 2 + 2?"), problem("What is 1 + 3?")
    traces = [
        trace(one, 0, reasoning="how many apples", answer="9", completion_tokens=30),
        trace(other, 0, reasoning="number of fruits", completion_tokens=20),
        trace(one, 1, reasoning="what number apples", completion_tokens=40),
        trace(other, 1, reasoning="speed of train"),
        trace(other, 2, reasoning="unknown words"),
        trace(other, 3, reasoning="unknown words"),
    ]
    found = filtered(traces, [one, other], steps=steps(model, on="trace", threshold=0.8))
    details = {drop.trace_id: drop.detail for drop in found.drops}
    assert details.keys() == {traces[0].id, traces[1].id}  # the one is wrong, the other later
    assert all(detail.startswith(f"of {traces[2].id}, similarity") for detail in details.values())
    shortest = filtered(
        traces, [one, other], steps=steps(model, on="trace", threshold=0.8, keep=["shortest"])
    )
    assert {drop.trace_id for drop in shortest.drops} == {traces[0].id, traces[2].id}
    again = filtered(traces[::-1], [one, other], steps=steps(model, on="trace", threshold=0.8))
    assert again.drops == found.drops


def test_all_of_a_long_text_is_read(model: Path) -> None:
    embed = load_embedder(str(model))
    long = "apples " * 600 + "train " * 600
    assert embed([long])[0].tolist() == pytest.approx([0, 0.5**0.5, 0.5**0.5])
    assert embed([""])[0].tolist() == [0, 0, 0]


def test_a_search_in_blocks_finds_what_one_by_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("filter.embedding._BLOCK", 7)
    monkeypatch.setattr("filter.embedding._IN_MEMORY", 0)
    rng = np.random.default_rng(0)
    made = rng.normal(size=(200, 4)).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    groups = rng.integers(0, 3, 200)

    def embed(texts: Any) -> Any:
        return made[[int(text or 0) for text in texts]]

    parts = [(np.arange(begin, begin + 50), list(map(str, range(begin, begin + 50))))
             for begin in range(0, 200, 50)]  # fmt: skip
    vectors = embed_all(parts, 200, embed, tmp_path)
    assert isinstance(vectors, np.memmap)
    twins = similar_twins(vectors, 0.9, groups)
    kept: list[int] = []
    for text in range(200):
        like = [
            one for one in kept if groups[one] == groups[text] and made[one] @ made[text] >= 0.9
        ]
        assert twins.of[text] == (like[0] if like else -1)
        if like:
            assert twins.similarity[text] == pytest.approx(made[like[0]] @ made[text], abs=1e-5)
        else:
            kept.append(text)
    assert 0 < len(kept) < 200


def test_what_is_missing_is_one_line(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(f"extends: {recipe}\nfilter: {{steps: [form, semantic: {{model: ./static}}]}}")
    with pytest.raises(RecipeError, match=r"filter.steps.1.semantic.model: there is no folder /"):
        check_paths(load_recipe(own))
    (tmp_path / "static").mkdir()
    loaded = load_recipe(own)
    check_paths(loaded)
    step = loaded.filter.steps[1].semantic
    assert step is not None
    assert step.model == str(tmp_path / "static")

    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "model2vec":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"needs model2vec: pip install 'tracestill\[semantic\]'"):
        load_embedder("any")


def test_a_folder_that_holds_no_model_is_one_line(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no static model in"):
        load_embedder(str(tmp_path))
