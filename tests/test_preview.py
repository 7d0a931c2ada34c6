"""`tracestill preview`: what is shown is what is learnt, in colour and without."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, TINY, run_tracestill
from students import Family, fast_tokenizer

from tracestill.commands.app import main

Shown = Callable[..., str]

RECIPE = """\
name: look
problems:
  heldout: [{{source: file, path: heldout.jsonl}}]
generate: {{engine: import, layout: table, path: traces.jsonl}}
filter: {{steps: [form]}}
finetune:
  student: {root}/miniature/student
  template: {root}/recipes/templates/miniature.jinja
  max_length: 128
  system_prompt: Think first.
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose run lies beside it, with kept traces: one of them too long, one with a token
    of the student's in its text.
    """
    folder = tmp_path_factory.mktemp("preview")
    rows = [
        {
            "prompt": f"What is {n} + 1?",
            "answer": str(n + 1),
            "response": f"<think>\n{n} and one,\n{'so ' * (60 if n == 4 else n + 1)}\n</think>\n\n"
            f"It is \\boxed{{{n + 1}}}.",
        }
        for n in range(6)
    ]
    rows[5]["response"] += " A <|user|> told me."
    heldout = {"prompt": "What is 50 + 1?", "reference": "51"}
    (folder / "traces.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "heldout.jsonl").write_text(json.dumps(heldout))
    (folder / "look.yaml").write_text(RECIPE.format(root=ROOT))
    done = run_tracestill("filter", folder / "look.yaml", "--out", folder / "run")
    assert done.returncode == 0, done.stderr
    return folder / "look.yaml"


def preview(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    """The command in this process, which has the libraries already: its status and what it said."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["tracestill", "preview", *map(str, words)])
        status = 0
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
    said = capsys.readouterr()
    return status, said.out, said.err


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Shown:
    def show(recipe: Path, *options: str, run: Path | None = None) -> str:
        run = run or recipe.parent / "run"
        status, out, err = preview(capsys, recipe, "--out", run, *options)
        assert status == 0, err
        return out

    return show


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Shown:
    def refuse(recipe: Path, *options: str, run: Path | None = None) -> str:
        run = run or recipe.parent / "run"
        status, out, err = preview(capsys, recipe, "--out", run, *options)
        assert (status, out) == (1, "")
        (line,) = err.splitlines()
        return line

    return refuse


def test_kept_traces_are_shown_as_they_are_learnt(recipe: Path, shown: Shown) -> None:
    dropping = ("--set", "finetune.unlearnable=drop")
    text = shown(recipe, *dropping, "--samples", "10")
    assert "miniature.jinja: the prompt opens <think>; <|end|> is learnt and ends a gen" in text
    assert "the 6 kept traces of" in text
    assert "\x1b" not in text
    assert (
        "<|user|>Think first.\n\nWhat is 2 + 1?<|assistant|><think>\n"
        "⟦reasoning⟧2 and one,\nso so so\n</think>⟦answer⟧\n\nIt is \\boxed{3}.⟦stop⟧<|end|>\n"
    ) in text
    assert "4 samples, " in text
    assert re.search(r"Packed: \d rows? of 128 tokens, \d\d\.\d% filled", text)
    assert "1 of 5 traces are longer than 128 tokens: left out" in text
    assert re.search(r"Left out: trace \w+: its text has <\|user\|>", text)
    sizes = re.findall(r"tokens: (\d+) prompt, (\d+) reasoning, (\d+) answer", text)
    assert len(sizes) == 4
    totals = [sum(map(int, one)) for one in sizes]
    assert totals == sorted(totals)
    total = int(re.search(r"4 samples, (\d+) tokens", text)[1])  # type: ignore[index]
    assert total == sum(totals) + 4  # the stop tokens


def test_colour_takes_the_place_of_marks(
    recipe: Path, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropping = ("--set", "finetune.unlearnable=drop")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    text = shown(recipe, *dropping)
    assert "\x1b[33m2 and one," in text
    assert "\x1b[32mIt is \\boxed{3}." in text
    assert "⟦reasoning⟧" not in text
    monkeypatch.setenv("NO_COLOR", "1")
    plain = shown(recipe, *dropping)
    assert "⟦reasoning⟧" in plain
    assert "\x1b[33m" not in plain


def test_one_trace_is_shown_whole(recipe: Path, shown: Shown) -> None:
    longer = ("--set", "finetune.max_length=512", "--set", "finetune.unlearnable=drop")
    text = shown(recipe, *longer, "--samples", "10")
    ids = re.findall(r"--- trace (\w+) ", text)
    one = shown(recipe, *longer, "--trace", ids[-1])
    assert re.findall(r"--- trace (\w+) ", one) == [ids[-1]]
    assert "so " * 59 in one
    assert "1 sample, " in one


def test_what_fails_the_checks_is_told_before_any_training(recipe: Path, refused: Shown) -> None:
    assert re.search(r"trace \w+: its text has <\|user\|>, which.*unlearnable", refused(recipe))
    line = refused(recipe, "--set", "finetune.stop=<nothing>")
    assert "finetune.stop: <nothing> is not one token of the student's vocabulary" in line
    line = refused(recipe, "--trace", "nothing")
    assert "--trace nothing: there is none with such an id in the 6 kept traces" in line
    line = refused(recipe, run=recipe.parent / "other")
    assert "has no kept traces yet, and the recipe's problems come with them" in line


def test_before_anything_is_paid_for_a_made_up_trace_is_shown(tmp_path: Path, shown: Shown) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY.format(root=ROOT))
    text = shown(tmp_path / "tiny.yaml", "--samples", "2", run=tmp_path / "run")
    assert "made-up traces of the recipe's first problems, since" in text
    assert text.count("⟦reasoning⟧Here stands how the teacher reasons.") == 2
    assert "filled" not in text
    assert not (tmp_path / "run").exists()


def test_no_model_is_loaded_for_it(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY.format(root=ROOT))
    code = (
        "import sys; from tracestill.commands.app import app;"
        "app(['preview', *sys.argv[1:]], standalone_mode=False);"
        "assert not {'vllm', 'trl', 'peft'} & sys.modules.keys()"
    )
    command = [sys.executable, "-c", code, tmp_path / "tiny.yaml", "--out", tmp_path / "run"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_trace_can_not_steer_the_terminal(recipe: Path, tmp_path: Path, shown: Shown) -> None:
    row = {"prompt": "Hi?", "answer": "1", "response": "<think>\n\x1b[2Jgone\n</think>\n\n1"}
    (tmp_path / "traces.jsonl").write_text(json.dumps(row))
    for name in ("heldout.jsonl", "look.yaml"):
        shutil.copy(recipe.parent / name, tmp_path / name)
    done = run_tracestill("filter", tmp_path / "look.yaml", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    text = shown(tmp_path / "look.yaml")
    assert "\x1b[2J" not in text
    assert "␛[2Jgone" in text


# A macro, a budget in the system turn, tags of its own: of no family that is known here.
STRANGE = """\
{%- macro turn(m) -%}{{ bos_token ~ m.role ~ ':' }}{{ m.content | trim }}{{ eos_token }}
{%- endmacro -%}
{{ bos_token ~ 'system:' }}{% if messages[0].role == 'system' %}{{ messages[0].content }}
{%- set messages = messages[1:] %}{% endif %} You may think for {{ budget | default(512) }} tokens.
{{- eos_token }}{% for m in messages %}{% if m.role == 'assistant' %}{{ bos_token ~ 'assistant:' }}
{%- if m.reasoning_content %}<seed:think>{{ m.reasoning_content }}</seed:think>{% endif %}
{{- m.content | trim }}{{ eos_token }}{% else %}{{ turn(m) }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ bos_token ~ 'assistant:' }}{% endif %}"""


def test_three_lines_show_what_a_model_that_nobody_knows_would_learn(
    tmp_path: Path, shown: Shown
) -> None:
    from transformers import AutoConfig

    family = Family(
        special=("<|begin|>", "<|over|>", "<|pad|>"), added=("<seed:think>", "</seed:think>"),
        bos="<|begin|>", eos="<|over|>",
    )  # fmt: skip
    folder = tmp_path / "Sprout-1B"
    tokenizer = fast_tokenizer(family)
    tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(STRANGE)
    ids = {
        name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")
    }
    AutoConfig.for_model("seed_oss", vocab_size=len(tokenizer), **ids).save_pretrained(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    sums = "{{source: reasoning_gym, family: chain_sum, size: 3, seed: {}}}"
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        f"problems: {{train: [{sums.format(1)}], heldout: [{sums.format(2)}]}}\n"
        f"generate: {{model: {ROOT}/miniature/teacher, samples: 1}}\n"
        "finetune: {student: ./Sprout-1B}\n"
    )
    said = shown(recipe)
    assert "the student writes <seed:think>; <|over|> is learnt" in said
    assert "<|begin|>assistant:⟦reasoning⟧<seed:think>" in said
    assert "⟦stop⟧<|over|>" in said
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
