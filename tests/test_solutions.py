"""Teachers that do not think: plain solutions, split or learnt as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import run_tracestill
from test_filter import filtered, problem, reasons, trace

from filter.filtering import filter_traces
from generate.canary import Canary
from generate.reasoning import split_reasoning
from generate.solutions import with_solution
from tracestill.recipe.filter import FilterSection
from tracestill.records import Kept, Trace, read_table
from tracestill.records.progress import ignore_progress

CASES: list[tuple[str, str, str | None, str | None]] = [
    ("paragraphs", "First 2.\n\nThen 3.\n\nSo it is \\boxed{5}.", "First 2.\n\nThen 3.",
     "So it is \\boxed{5}."),
    ("lines", "2 + 3\n= 5\nAnswer: 5", "2 + 3\n= 5", "Answer: 5"),
    ("GSM8K", "2 + 3 = <<2+3=5>>5\n#### 5\n", "2 + 3 = <<2+3=5>>5", "#### 5"),
    ("code at the end", "Add them.\n\n```python\na = 1\n\nprint(a)\n```", "Add them.",
     "```python\na = 1\n\nprint(a)\n```"),
    ("one line", "5", None, "5"),
    ("code alone", "```\nprint(1)\n```", None, "```\nprint(1)\n```"),
    ("marked already", "<think>\nhm\n</think>\n\nIt is\n\n5", "hm", "It is\n\n5"),
    ("an empty block", "<think>\n\n</think>\n\nTwo and three.\n\n5", "Two and three.", "5"),
    ("cut while it thinks", "<think>\nhm", "hm", None),
]  # fmt: skip


@pytest.mark.parametrize(("_", "raw", "reasoning", "answer"), CASES, ids=[c[0] for c in CASES])
def test_what_precedes_the_final_answer_is_the_reasoning(
    _: str, raw: str, reasoning: str | None, answer: str | None
) -> None:
    split = with_solution(split_reasoning(raw))
    assert (split.reasoning, split.answer) == (reasoning, answer)


def test_the_form_step_follows_what_the_student_learns() -> None:
    two = problem("What is 2 + 2?")
    traces = [
        trace(two, 0, reasoning=None),
        trace(two, 1, reasoning=" ", answer="So \\boxed{4}"),
        trace(two, 2, answer=None),
        trace(two, 3, reasoning=None, answer="</think>\\boxed{4}"),
        trace(two, 4, reasoning=None, answer=" "),
    ]
    first = {"0": "malformed", "1": "empty"}
    others = {"2": "malformed", "3": "malformed"}
    assert reasons(filtered(traces, [two])) == {**first, **others, "4": "malformed"}
    plain = filter_traces(
        traces, {two.id: two}, [], FilterSection(), ignore_progress, needs_reasoning=False
    )
    assert reasons(plain) == {**others, "4": "empty"}


@pytest.mark.parametrize(("needs", "stopped"), [(True, True), (False, False)])
def test_the_canary_follows_it_too(needs: bool, stopped: bool) -> None:
    canary = Canary(None, needs_reasoning=needs)
    two = problem("What is 2 + 2?")
    for sample in range(50):
        canary.watch(str(sample))
        canary.see(trace(two, sample, reasoning=None))
    assert canary.alarmed == stopped
    if stopped:
        assert "generate.reasoning to solution, or finetune.think to none" in str(canary.error())


RECIPE = """\
name: plain
problems:
  heldout: [{{source: file, path: heldout.jsonl}}]
generate: {{engine: import, layout: table, path: traces.jsonl{reasoning}}}
filter: {{near_duplicates: null}}
finetune:
  student: {root}/miniature/student
  template: {template}
  max_length: 256
{finetune}"""


def run(folder: Path, root: Path, stage: str, **values: str) -> Any:
    rows = [
        {
            "prompt": f"What is {n} + 1?",
            "reference": str(n + 1),
            "response": f"Take {n}.\n\nAdd one.\n\nIt is \\boxed{{{n + 1}}}.",
        }
        for n in range(6)
    ]
    (folder / "traces.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "heldout.jsonl").write_text(json.dumps({"prompt": "50 + 1?", "reference": "51"}))
    filled = {"reasoning": "", "finetune": "", "template": "miniature", **values}
    (folder / "plain.yaml").write_text(RECIPE.format(root=root, **filled))
    return run_tracestill(stage, folder / "plain.yaml", "--out", folder / "run")


@pytest.mark.slow
def test_plain_solutions_go_through_the_line(tmp_path: Path, root: Path) -> None:
    """Dropped with advice; split where the recipe says so; learnt whole where it says that."""
    done = run(tmp_path, root, "filter")
    assert "6 malformed" in done.stdout + done.stderr
    assert "set generate.reasoning to solution" in done.stdout + done.stderr
    done = run(tmp_path, root, "filter", reasoning=", reasoning: solution")
    assert done.returncode == 0, done.stderr
    traces = list(read_table(tmp_path / "run" / "generate", "traces", Trace))
    assert {t.answer for t in traces} == {f"It is \\boxed{{{n + 1}}}." for n in range(6)}
    assert all(t.reasoning is not None and t.reasoning.endswith("Add one.") for t in traces)
    assert len(list(read_table(tmp_path / "run" / "filter", "kept", Kept))) == 6
    # The miniature's own template opens the think block, so plain students take another.
    (tmp_path / "turns.jinja").write_text(
        "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}"
        "{{ '<|end|>' if m.role == 'assistant' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    told = {"template": "turns.jinja", "finetune": "  think: none\n"}
    done = run(tmp_path, root, "filter", **told)
    assert done.returncode == 0, done.stderr
    done = run(tmp_path, root, "preview", **told)
    assert done.returncode == 0, done.stderr
    assert "the student answers without reasoning; <|end|> is learnt" in done.stdout
    assert "<|assistant|>⟦answer⟧Take" in done.stdout
