"""What is private is masked before it is sent, and nothing else is."""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from pydantic import ValidationError
from scripted import completion, reply, scripted

from filter.verify import verify
from generate.reasoning import split_reasoning
from generate.redact import Mask, redactor, restore, restore_trace, restored
from tracestill.recipe.models import Redact
from tracestill.recipe.schema import Recipe
from tracestill.records import (
    Kind,
    Manifest,
    Problem,
    Sampling,
    Teacher,
    Trace,
    problem_id,
    read_manifest,
    write_manifest,
    write_table,
)
from tracestill.records.figures import SamplingFigures
from tracestill.records.progress import ignore_progress
from tracestill.run.pipeline import make_stage
from tracestill.stages.examples import kept_examples

GYM = {"source": "reasoning_gym", "family": "gcd", "size": 1}

DATA = ROOT.parent / "shared" / "data"

# No text of this file may itself look like a key, so that nobody's scanner cries: random text is
# put together here.
WORD = "aB3dE5gH7jK9mN1pQ2sT4vW6yZ8c"
LONG = WORD * 4
HEX = "0123456789abcdef" * 4
JWT = "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0" + ".dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"
BLOCK = (
    "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n+/==\n-----END RSA PRIVATE KEY-----"
)

POSITIVES: list[tuple[str, str, str]] = [
    # kind, text, what of it is masked
    ("email", "Write to bob@example.com.", "bob@example.com"),
    ("email", "<bob.o'neil+tag@mail.example.co.uk>", "bob.o'neil+tag@mail.example.co.uk"),
    ("email", "mailto:BOB@EXAMPLE.COM?subject=x", "BOB@EXAMPLE.COM"),
    ("email", "Schreiben Sie an jürgen@bücher.example!", "jürgen@bücher.example"),
    ("email", "Пишите: иван@почта.рф", "иван@почта.рф"),
    ("email", "邮箱是bob@example.com。", "bob@example.com"),
    ("email", "連絡先はbob@example.co.jpまで", "bob@example.co.jp"),
    ("email", "البريد bob@example.com هنا", "bob@example.com"),
    ("email", "'a_b-c@x-y.example'", "a_b-c@x-y.example"),
    ("email", "bob@example.com(work)", "bob@example.com"),
    ("email", "bob@example.de(work)", "bob@example.de"),
    ("email", r"$\text{bob@example.org}$", "bob@example.org"),
    ("email", "x@xn--bcher-kva.xn--p1ai", "x@xn--bcher-kva.xn--p1ai"),
    ("phone", "Call +49 30 901820 now", "+49 30 901820"),
    ("phone", "Call +1 (212) 555-0123.", "+1 (212) 555-0123"),
    ("phone", "tel:+442079460958", "+442079460958"),
    ("phone", "Appelez le +33 1 42 68 53 00.", "+33 1 42 68 53 00"),
    ("phone", "电话+86 138 1234 5678。", "+86 138 1234 5678"),
    ("phone", "電話:+81-3-5253-1111", "+81-3-5253-1111"),
    ("phone", "Anna (mobile) +4915112345678", "+4915112345678"),
    ("phone", "[+31 20 794 0800]", "+31 20 794 0800"),
    ("iban", "Konto DE89 3704 0044 0532 0130 00 bei", "DE89 3704 0044 0532 0130 00"),
    ("iban", "DE89370400440532013000", "DE89370400440532013000"),
    ("iban", "IBAN: GB82 WEST 1234 5698 7654 32 AND MORE", "GB82 WEST 1234 5698 7654 32"),
    ("iban", "FR14 2004 1010 0505 0001 3M02 606.", "FR14 2004 1010 0505 0001 3M02 606"),
    ("iban", "nl91abna0417164300", "nl91abna0417164300"),
    ("iban", "NO93 8601 1117 947", "NO93 8601 1117 947"),
    ("iban", "MT84MALT011000012345MTLCAST001S", "MT84MALT011000012345MTLCAST001S"),
    ("key", f"key sk-{WORD[:20]}T3Blbk{WORD[:20]}", f"sk-{WORD[:20]}T3Blbk{WORD[:20]}"),
    ("key", f"sk-proj-{LONG[:70]}_-{WORD}", f"sk-proj-{LONG[:70]}_-{WORD}"),
    ("key", f"sk-{HEX[:32]}.", f"sk-{HEX[:32]}"),
    ("key", f"sk-or-v1-{HEX}", f"sk-or-v1-{HEX}"),
    ("key", f"sk-ant-api03-{LONG[:90]}-AA", f"sk-ant-api03-{LONG[:90]}-AA"),
    ("key", f"ghp_{LONG[:36]}", f"ghp_{LONG[:36]}"),
    ("key", f"github_pat_{LONG[:22]}_{LONG[:59]}", f"github_pat_{LONG[:22]}_{LONG[:59]}"),
    ("key", "AKIA" + "IOSFODNN7EXAMPLE", "AKIA" + "IOSFODNN7EXAMPLE"),
    (
        "key",
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCY",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCY",
    ),
    ("key", f"hf_{LONG[:34]}", f"hf_{LONG[:34]}"),
    ("key", f"AIza{LONG[:35]}", f"AIza{LONG[:35]}"),
    ("key", f"xoxb-123456789012-{WORD}", f"xoxb-123456789012-{WORD}"),
    ("key", f"sk_live_{WORD[:24]}", f"sk_live_{WORD[:24]}"),
    ("key", f"glpat-{WORD[:20]}", f"glpat-{WORD[:20]}"),
    ("key", f"pypi-AgEIcHlwaS5vcmc{LONG}", f"pypi-AgEIcHlwaS5vcmc{LONG}"),
    ("key", f"token {JWT},", JWT),
    ("key", f"see\n{BLOCK}\nabove", BLOCK),
    ("key", BLOCK.replace("\n", "\\n"), BLOCK.replace("\n", "\\n")),
    ("key", f"Authorization: Bearer {WORD}", WORD),
    ("key", f'{{"api_key": "{HEX[:32]}"}}', HEX[:32]),
    ("key", f"WANDB_API_KEY={HEX[:40]}", HEX[:40]),
    ("key", "git clone https://bob:hunter2@example.com/r", "bob:hunter2@example.com"),
]

NEGATIVES = [
    "What is $x^2 + 49 \\cdot 30901820$?",
    "12 + 491512345678",
    "12 +491512345678",
    "x +491512345678",
    "x+491512345678 = y",
    "2^{10} +491512345678",
    "Compute 123456789 + 987654321.",
    "+1 -1 +2 -2 +3",
    "f(+1, +2, +3, +4, +5, +6, +7)",
    "The sum is +1234567.",
    "3.14159265358979323846",
    "1,234,567,890 people",
    "$1,234,567.89",
    "between 1990-1995 and 2001-02-03",
    "2024-05-17T12:30:00+02:00",
    "12:30 to 14:45 on 17/05/2024",
    "version 1.2.3-beta.4+build.5678",
    "npm install left@1.2.3",
    "pip install torch==2.13.0+cpu",
    "ISBN 978-3-16-148410-0",
    "$\\frac{2100000000}{350000}$",
    "169 - 144 = 25",
    "1800-1170 apples",
    "phone 555-1234",
    "A@B.T",
    "A @ B.T + C",
    "X@W.mean(axis=0)",
    "q@k.transpose(-2, -1)",
    "@dataclass.field",
    "x @ y",
    "\\left\\{a@b\\right\\}",
    "user@localhost",
    "DE12 3456 7890 1234 5678 90",
    "AB12 CD34 EF56 GH78 IJ90",
    "Let AB = 12, BC = 89370400440532013000.",
    "GB82 WEST 1234 5698 7654 33",
    "sk-learn",
    "scikit-learn and sk-something-with-many-long-words-2",
    "task-0123456789abcdef0123456789abcdef",
    "mask_live_parts_of_the_image_12345",
    "token = tokenizer.encode(text, 1)",
    "max_tokens=1234567890123456",
    "secret = [3, 1, 4, 1, 5, 9, 2, 6]",
    "password: swordfish",
    "password = 'hunter2'",
    "def token_count(text: str) -> int:",
    "the bearer of good news and internationalisation",
    "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
    "sha256:" + HEX,
    "https://example.com:8080/a?b=c",
    "ratio 3:4@5",
    "eyJ is how base64 of a brace begins",
    "if line == '-----BEGIN CERTIFICATE-----':",
    "[EMAIL_1] and [PHONE_2]",
    "IN 12 345678901234567890",
    "0.0301234567",
]


@pytest.fixture(scope="module")
def mask() -> Mask:
    return redactor(Redact())


@pytest.mark.parametrize(("kind", "text", "private"), POSITIVES)
def test_what_is_private_is_masked(mask: Mask, kind: str, text: str, private: str) -> None:
    masked = mask(text)
    assert masked.originals == {f"[{kind.upper()}_1]": private}
    assert masked.texts == (text.replace(private, f"[{kind.upper()}_1]"),)
    assert masked.counts == {kind: 1}
    assert restore(masked.texts[0], masked.originals) == text


@pytest.mark.parametrize("text", NEGATIVES)
def test_what_is_not_private_is_left(mask: Mask, text: str) -> None:
    masked = mask(text)
    assert masked.texts == (text,)
    assert (masked.originals, masked.sent) == ({}, None)


def real_texts() -> Iterator[str]:
    for name, columns in {
        "math500": ("problem", "solution"),
        "gsm8k_test": ("question", "answer"),
        "aime24": ("problem", "solution"),
        "amc23": ("problem",),
    }.items():
        for line in (DATA / f"{name}.jsonl").open(encoding="utf-8"):
            row = json.loads(line)
            yield from (str(row[column]) for column in columns)
    with gzip.open(DATA / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield row["prompt"] + row["canonical_solution"] + row["test"]


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real problems, ../shared/data")
def test_nothing_in_the_real_problems_is_masked(mask: Mask) -> None:
    texts = list(real_texts())
    assert len(texts) > 3900
    assert [text for text in texts if mask(text).originals] == []


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real problems, ../shared/data")
def test_what_is_put_into_a_real_problem_is_masked(mask: Mask) -> None:
    """Among numbers and LaTeX as well, between sentences."""
    for index, text in enumerate(real_texts()):
        _, whole, private = POSITIVES[index % len(POSITIVES)]
        masked = mask(f"{text}\n{whole}\n{text}")
        assert list(masked.originals.values()) == [private]


@pytest.mark.parametrize(
    ("country", "text", "private"),
    [
        ("US", "Call (212) 555-0123 or 212-555-0199.", ["(212) 555-0123", "212-555-0199"]),
        ("DE", "Rufen Sie 030 901820-15 an.", ["030 901820-15"]),
        ("DE", "0049 30 901820", ["0049 30 901820"]),
        ("DE", "169 - 144 and 350000 and 1.0301234567 and 0.333333333333", []),
        ("GB", "on 020 7946 0958 today", ["020 7946 0958"]),
        ("FR", "01 42 68 53 00", ["01 42 68 53 00"]),
        ("US", "2125550123", []),
    ],
)
def test_numbers_in_national_form_are_masked_on_request(
    mask: Mask, country: str, text: str, private: list[str]
) -> None:
    assert mask(text).originals == {}
    found = redactor(Redact(phone_countries=[country]))(text)
    assert list(found.originals.values()) == private


def test_the_same_original_has_one_placeholder_in_all_that_is_sent(mask: Mask) -> None:
    masked = mask("You are bob@x.example.", "bob@x.example, ann@x.example, bob@x.example")
    assert masked.texts == ("You are [EMAIL_1].", "[EMAIL_1], [EMAIL_2], [EMAIL_1]")
    assert masked.originals == {"[EMAIL_1]": "bob@x.example", "[EMAIL_2]": "ann@x.example"}
    assert masked.counts == {"email": 4}
    assert mask("You are bob@x.example.", "bob@x.example, ann@x.example, bob@x.example") == masked


@pytest.mark.parametrize("taken", ["[EMAIL_1]", r"[EMAIL\_1]"])
def test_a_placeholder_never_looks_like_what_was_there(mask: Mask, taken: str) -> None:
    texts = (f"What does {taken} mean?", "bob@x.example, not [EMAIL_2] nor [EMAIL_[PHONE_1]]")
    masked = mask(*texts)
    assert masked.originals == {"[EMAIL_3]": "bob@x.example"}
    assert tuple(restore(text, masked.originals) for text in masked.texts) == texts


def test_ten_placeholders_are_not_one(mask: Mask) -> None:
    text = " ".join(f"p{n}@x.example" for n in range(12))
    masked = mask(text)
    assert masked.texts[0].endswith("[EMAIL_10] [EMAIL_11] [EMAIL_12]")
    assert restore(masked.texts[0], masked.originals) == text


def test_overlapping_finds_are_masked_whole() -> None:
    """Neither part of what two patterns found together is left over."""
    mask = redactor(Redact(patterns={"name": "bob", "host": r"x\.example/secret"}))
    masked = mask("bob@x.example/secret, bob")
    assert masked.texts == ("[EMAIL_1], [NAME_1]",)
    assert masked.originals == {"[EMAIL_1]": "bob@x.example/secret", "[NAME_1]": "bob"}


def test_kinds_and_patterns_are_the_users_choice() -> None:
    settings = Redact(kinds=["phone"], patterns={"ticket": r"(?i)t-[0-9]{6}|q*"})
    masked = redactor(settings)("bob@x.example: T-123456, t-123456, +49 30 901820")
    assert masked.texts == ("bob@x.example: [TICKET_1], [TICKET_2], [PHONE_1]",)
    assert masked.counts == {"ticket": 2, "phone": 1}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patterns": {"ticket": "("}}, "no regular expression"),
        ({"patterns": {"ticket": "[z-a]"}}, "no regular expression"),
        ({"patterns": {"email": "x"}}, "email is a kind that is known"),
        ({"patterns": {"my ticket": "x"}}, "should match pattern"),
        ({"phone_countries": ["Germany"]}, "two capital letters"),
        ({"kinds": ["names"]}, "'email', 'phone', 'iban' or 'key'"),
    ],
)
def test_a_mistake_in_the_section_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Redact(**settings)


def test_a_pattern_that_never_ends_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracestill.records.patterns._SECONDS", 0.2)
    mask = redactor(Redact(patterns={"slow": "(?:a|aa)+$"}))
    with pytest.raises(ValueError, match=r"redact\.patterns\.slow takes more than"):
        mask("a" * 5000 + "b")


HOSTILE = {
    "words": "a" * 30_000,
    "hyphens": "sk-" + "a-" * 15_000,
    "addresses": "a@a." * 7_500,
    "signs": "+1 " * 5_000,
    "accounts": "AB12 " * 2_000,
    "assignments": "token=token-" * 2_500,
    "blocks": "-----BEGIN " * 2_500,
    "urls": "a://b:" * 5_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_our_own_patterns_end_on_any_text(mask: Mask, text: str) -> None:
    import time

    begin = time.process_time()
    mask(text)
    assert time.process_time() - begin < 5  # a second or less where nothing explodes


TEACHER = Teacher(
    model="m", revision=None, content="c", engine="openai", engine_version="1", quantisation=None,
    provider="p", sampling=Sampling(temperature=1, top_p=1, top_k=-1, max_tokens=9, seed=None),
)  # fmt: skip


def problem(prompt: str, reference: str, kind: Kind, **meta: Any) -> Problem:
    identity = problem_id(prompt, reference)
    return Problem(
        id=identity, prompt=prompt, reference=reference, kind=kind, source="s", meta=meta
    )


def trace(asked: Problem, raw: str, ids: list[int] | None = None) -> Trace:
    read = split_reasoning(raw)
    reasoning, answer = read.reasoning, read.answer
    return Trace(
        id="t", problem_id=asked.id, sample=0, raw=raw, raw_reasoning=None, raw_token_ids=ids,
        reasoning=reasoning, answer=answer, finish="stop", error=None, prompt_tokens=1,
        completion_tokens=1, teacher=TEACHER, seconds=1.0, cost=0.0,
    )  # fmt: skip


ANSWERS: list[tuple[Problem, str, str, str]] = [
    # a problem, a teacher's right answer to it as it was asked, a wrong one, what both rest on
    (
        problem("+49 30 901820 or ann@x.example: which has 13 characters?", "B", "choice"),
        "<think>[EMAIL_1] has 13.</think>The answer is B",
        "<think>[PHONE_1]</think>The answer is A",
        "ann@x.example",
    ),
    (
        problem("Which part of ann@x.example stands before the @?", "ann@x.example", "math"),
        r"<think>[EMAIL_1]</think>\boxed{\text{[EMAIL\_1]}}",
        r"<think>[EMAIL_1]</think>\boxed{\text{ann}}",
        "ann@x.example",
    ),
    (
        problem("How many digits has +49 30 901820? Add 1.", "11", "math"),
        r"<think>[PHONE_1] …</think>\boxed{11}",
        r"<think>[PHONE_1] …</think>\boxed{12}",
        "+49 30 901820",
    ),
]


@pytest.mark.parametrize(("asked", "right", "wrong", "private"), ANSWERS)
def test_a_right_answer_is_right_whether_or_not_it_is_restored(
    mask: Mask, asked: Problem, right: str, wrong: str, private: str
) -> None:
    masked = mask("", asked.prompt)
    assert private not in masked.texts[1]
    for raw in (right, wrong):
        left = trace(asked, raw)
        stored = restore_trace(left, masked.originals)
        assert private in (stored.reasoning or "") or raw == wrong
        for kept in (left, stored):
            (judged,) = restored([kept], {asked.id: asked}, mask, None)
            assert judged == stored
            assert (verify(asked, judged.answer, "t").outcome == "correct") == (raw == right)


def test_a_restored_trace_has_no_ids_of_other_text(mask: Mask) -> None:
    asked = problem("Ask ann@x.example.", "4", "math")
    originals = mask("", asked.prompt).originals
    same = trace(asked, "<think>2+2</think>4", [1, 2])
    assert restore_trace(same, originals) is same
    other = restore_trace(trace(asked, "<think>[EMAIL_1]</think>4", [1, 2]), originals)
    assert (other.raw, other.raw_token_ids) == ("<think>ann@x.example</think>4", None)


def test_what_was_sent_tells_a_masked_prompt_from_the_same_unmasked(mask: Mask) -> None:
    """So that an answer to the one is not taken for an answer to the other."""
    text = "bob@x.example and +49 30 901820"
    only = redactor(Redact(kinds=["email"]))
    assert mask(text).sent == mask(text).sent != only(text).sent
    assert redactor(Redact(kinds=[]))(text).sent is None


def test_a_recipe_masks_for_teacher_and_judge(tmp_path: Path) -> None:
    from tracestill.recipe.errors import RecipeError
    from tracestill.recipe.loading import load_recipe

    section = "engine: openai, model: m, base_urls: ['http://localhost/v1'], redact: {%s}"
    text = (
        "name: small\n"
        "problems: {train: [{source: reasoning_gym, family: gcd, size: 1}],\n"
        "  heldout: [{source: reasoning_gym, family: gcd, size: 1}]}\n"
        f"generate: {{{section}}}\n"
        f"filter: {{judge: {{template: t.jinja, {section}}}}}\n"
        'finetune: {student: some/student, template: t.jinja, stop: "x"}\n'
    )
    path = tmp_path / "r.yaml"
    path.write_text(text % ("restore: false", "patterns: {id: '[A-Z]{9}'}"))
    recipe = load_recipe(path)
    assert recipe.generate.redact == Redact(restore=False)
    assert recipe.filter.judge is not None
    assert recipe.filter.judge.redact == Redact(patterns={"id": "[A-Z]{9}"})
    path.write_text(text % ("patterns: {id: '('}", ""))
    with pytest.raises(RecipeError, match=r"line 4: generate\.redact\.patterns\.id: no regular"):
        load_recipe(path)


def masked_run(folder: Path, restore_: bool) -> tuple[Recipe, Path]:
    """A run whose generate stage is done: its teacher saw placeholders."""
    recipe = Recipe.model_validate(
        {
            "name": "masked",
            "problems": {split: [GYM] for split in ("train", "heldout")},
            "generate": {
                "engine": "openai", "model": "m", "base_urls": ["http://localhost/v1"],
                "system_prompt": "You are ann@x.example.", "redact": {"restore": restore_},
            },
            "filter": {"steps": ["form", "verify", "exact"]},
            "finetune": {"student": "some/student", "template": "t.jinja", "stop": "x"},
        }
    )  # fmt: skip
    mask = redactor(Redact())
    asked = [problem for problem, *_ in ANSWERS]
    traces = []
    for number, (one, *raws, _) in enumerate(ANSWERS):
        masked = mask("You are ann@x.example.", one.prompt)
        for sample, raw in enumerate(raws):
            made = dataclasses.replace(trace(one, raw), id=f"{number}{sample}", sample=sample)
            traces.append(restore_trace(made, masked.originals) if restore_ else made)
    tables = {
        "train": write_table(folder / "problems", "train", Problem, asked),
        "heldout": write_table(folder / "problems", "heldout", Problem, []),
    }
    done = {"fingerprint": "f", "seconds": 0.0}
    write_manifest(
        folder / "problems",
        Manifest(stage="problems", rows_in=3, rows_out=3, tables=tables, **done),
    )
    shards = write_table(folder / "generate", "traces", Trace, traces)
    write_manifest(
        folder / "generate",
        Manifest(stage="generate", rows_in=6, rows_out=6, tables={"traces": shards}, **done),
    )
    return recipe, folder


@pytest.mark.parametrize("restore_", [True, False])
def test_the_filter_keeps_the_same_and_the_student_learns_what_is_stored(
    tmp_path: Path, restore_: bool
) -> None:
    recipe, run = masked_run(tmp_path, restore_)
    make_stage("filter", recipe, run, ignore_progress)
    learnt = kept_examples(recipe, run)
    assert [one.trace_id for one in learnt] == ["00", "10", "20"]
    shown = " ".join(f"{one.prompt} {one.reasoning} {one.answer}" for one in learnt)
    assert ("ann@x.example" in shown, "[EMAIL_1]" in shown) == (restore_, not restore_)
    assert ("+49 30 901820" in shown, "[PHONE_1]" in shown) == (restore_, not restore_)


def test_the_stage_says_what_was_masked(tmp_path: Path) -> None:
    rows = [{"prompt": f"Who is p{n}@x.example, +49 30 901820?", "reference": ""} for n in range(2)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with scripted(lambda *_: reply(completion())) as server:
        recipe = Recipe.model_validate(
            {
                "name": "masked",
                "problems": {
                    "train": [{"source": "file", "path": str(tmp_path / "p.jsonl")}],
                    "heldout": [GYM],
                },
                "generate": {
                    "engine": "openai", "model": "m", "base_urls": [server.url],
                    "system_prompt": "You are ann@x.example.", "redact": {},
                },
                "finetune": {"student": "some/student", "template": "t.jinja", "stop": "x"},
            }
        )  # fmt: skip
        for stage in ("problems", "generate"):
            make_stage(stage, recipe, tmp_path, ignore_progress)
    manifest = read_manifest(tmp_path / "generate")
    assert manifest is not None
    assert isinstance(manifest.figures, SamplingFigures)
    assert manifest.figures.masked == {"email": 4, "phone": 2}
    assert "masked in what was sent: 4 email, 2 phone" in manifest.notes
