"""What the filter's steps quality and language drop, by examples with their right reason."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_filter import filtered, problem, reasons, trace

from filter.languages import detector
from filter.steps.language import spoken

TABLES = Path(__file__).parent / "tables"
QUALITY = yaml.safe_load((TABLES / "quality.yaml").read_text(encoding="utf-8"))
LANGUAGES = yaml.safe_load((TABLES / "reasoning_languages.yaml").read_text(encoding="utf-8"))


def text(parts: Any) -> str:
    """A text of an example: as it is, or pieces that are said several times."""
    if isinstance(parts, str):
        return parts
    said = []
    for part in parts:
        many = part if isinstance(part, dict) else {"say": part}
        for number in range(many.get("times", 1)):
            said.append(many["say"].replace("NUMBER", str(number)))
    return "".join(said)


def verdict(step: str | dict[str, Any], reasoning: str, answer: str = "It is so.") -> str:
    """The reason for which a step drops a trace, or kept."""
    asked = problem("What is it?", "4")
    one = trace(asked, reasoning=reasoning, answer=answer)
    dropped = reasons(filtered([one], [asked], steps=[step]))
    return next(iter(dropped.values()), "kept")


@pytest.mark.parametrize("example", QUALITY, ids=[one["name"] for one in QUALITY])
def test_quality_is_as_labelled(example: dict[str, Any]) -> None:
    step = {"quality": example.get("settings", {})}
    answer = example.get("answer", "It is so.")
    assert verdict(step, text(example["reasoning"]), answer) == example["verdict"]


def test_there_are_examples_enough_of_each_verdict() -> None:
    counts = Counter(one["verdict"] for one in QUALITY)
    assert sum(counts.values()) >= 25
    assert min(counts.values()) >= 2


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_is_told(code: str) -> None:
    for sentence in LANGUAGES[code]:
        assert spoken([sentence]) == [code]
    asked = problem("What is it?", "4", language=code)
    whole = " ".join(LANGUAGES[code])
    own = trace(asked, reasoning=whole, answer=LANGUAGES[code][0])
    assert not filtered([own], [asked], steps=["language"]).drops
    other = "en" if code != "en" else "de"
    foreign = trace(asked, reasoning=" ".join(LANGUAGES[other] * 2), answer=LANGUAGES[other][0])
    assert filtered([foreign], [asked], steps=["language"]).dropped == {"other_language": 1}


@pytest.mark.parametrize(
    ("parts", "settings", "said"),
    [
        (["en", "en", "en", "en"], {}, "kept"),
        (["en", "en", "zh", "en"], {}, "mixed_language"),
        (["en", "de", "en", "en"], {}, "mixed_language"),
        (["de", "de", "de", "en"], {}, "other_language"),
        (["de", "de", "de", "de"], {"allow": ["de"]}, "kept"),
        (["en", "de", "en", "de"], {"allow": ["de", "en"]}, "kept"),
        (["en", "en", "fr", "en"], {"max_foreign": 0.4}, "kept"),
        (["en", "en", "en", "bg"], {"allow": ["en", "bg"]}, "kept"),
        (["zh", "zh", "zh", "zh"], {"allow": ["zh"]}, "kept"),
    ],
)
def test_a_switch_on_the_way_is_seen(parts: list[str], settings: dict[str, Any], said: str) -> None:
    reasoning = "\n".join(" ".join(LANGUAGES[code]) for code in parts)
    found = verdict({"language": {"pieces": 8, **settings}}, reasoning, answer="$4$")
    assert found == said


@pytest.mark.parametrize(
    "reasoning",
    [
        r"$\alpha + \beta = \gamma$, so $\Delta = 3$ and \(x \to \infty\). " * 9,
        "```python\ndef résumé(élan):\n    return élan ** 2  # carré de l'élan donné\n```\n" * 5,
        "3 + 4 = 7\n7 * 2 = 14\n14 - 5 = 9\n" * 20,
        "A# B# #A #B A# #B | A# B# #A #B | " * 12,
        "Let π ≈ 3.14 and θ ∈ [0, 2π). Then cos θ ≤ 1 for every θ, and so r·cos θ ≤ r. " * 4,
        "The name Łukasz comes from Kraków, as 北京 is Beijing; she has twelve apples to share.",
    ],
)
def test_code_formulas_and_names_are_no_other_language(reasoning: str) -> None:
    assert verdict("language", reasoning, answer="$4$") == "kept"


def test_a_language_that_nobody_knows_is_one_line() -> None:
    with pytest.raises(ValueError, match="language"):
        verdict({"language": {"allow": ["xx"]}}, "Let us see what comes of it, and then decide.")


def test_traces_can_be_selected_by_their_branch_words() -> None:
    asked = problem("What is it?", "4")
    turning = trace(asked, reasoning="Wait, first this. Hmm, WAIT! Waiting is that. " * 10)
    straight = trace(asked, 1, reasoning="First this, then that. " * 25)
    chosen = filtered(
        [turning, straight], [asked], steps=[{"select": {"by": "branches", "per_problem": 1}}]
    )
    assert chosen.kept == [straight.id]
    least = {"select": {"by": "branches", "keep": [None, 100]}}
    (drop,) = filtered([turning, straight], [asked], steps=[least]).drops
    assert (drop.trace_id, drop.detail) == (turning.id, "branches 375, kept is at most 100")


def test_the_detector_says_what_its_library_says() -> None:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    theirs = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    theirs.set_languages(list(LANGUAGES))
    ours = detector(list(LANGUAGES))
    parts = [
        part
        for sentence in itertools.chain.from_iterable(LANGUAGES.values())
        for part in (sentence, sentence[:25], sentence.upper())
    ]
    expected = [theirs.classify(part) for part in parts]
    assert ours.classify(parts) == [
        (name, pytest.approx(share, abs=1e-4)) for name, share in expected
    ]
    ((_, share),) = ours.classify([""])
    assert share < 0.1
    assert ours.classify([]) == []
