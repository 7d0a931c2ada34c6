"""Traces that exist already: rows in each public data set's schema, to problems and traces."""

from __future__ import annotations

import json
import random
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, run_tracestill

from generate.importing import ImportedRow, fingerprint, format_of, import_traces, walk
from tracestill.recipe.errors import RecipeError
from tracestill.recipe.generate import ImportTeacher
from tracestill.recipe.loading import load_recipe
from tracestill.recipe.paths import check_paths
from tracestill.records import (
    Drop,
    Problem,
    Trace,
    Verdict,
    problem_id,
    read_manifest,
    read_table,
)
from tracestill.records.figures import SamplingFigures
from tracestill.records.progress import ignore_progress
from tracestill.run.pipeline import make_stage

THOUGHT = "<think>\nTwo and two.\n</think>\n\nIt is \\boxed{4}."
TAGGED = (
    "<|begin_of_thought|>\n\nTwo and two.\n\n<|end_of_thought|>\n\n"
    "<|begin_of_solution|>\n\nIt is \\boxed{4}.\n\n<|end_of_solution|>"
)


def chat(role: str, content: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": "What is 2+2?"}, {"role": role, "content": content}]


def shared(asked: str, told: str, answer: str) -> list[dict[str, Any]]:
    return [{"from": asked, "value": "What is 2+2?"}, {"from": told, "value": answer}]


def am(think: str | None = "Two and two.", **known: str | None) -> dict[str, Any]:
    nothing = {"source": None, "reference_answer": None, "test_case": None}
    asked, answer = chat("assistant", f"<think>{think}</think><answer>It is \\boxed{{4}}.</answer>")
    asked["info"] = {**nothing, "think_content": None, "answer_content": None, **known}
    answer["info"] = {**nothing, "think_content": think, "answer_content": "It is \\boxed{4}."}
    return {"messages": [asked, answer]}


NEMOTRON = {
    "uuid": "u", "generator": "DeepSeek-R1-0528", "category": "math", "reasoning": "on",
    "messages": [
        {"role": "user", "content": "What is 2+2?", "tool_calls": []},
        {"role": "assistant", "content": THOUGHT, "tool_calls": []},
    ],
    "metadata": '{"expected_answer": "4"}',
}  # fmt: skip
# A row in each data set's schema: what its problem is (kind, reference), and its teacher.
OPENR1 = {
    "problem": "What is 2+2?", "solution": "Add them.", "answer": "4", "problem_type": "Algebra",
    "question_type": "math-word-problem", "source": "olympiads", "uuid": "u-1",
    "is_reasoning_complete": [True], "generations": [THOUGHT], "correctness_math_verify": [True],
    "correctness_llama": None, "finish_reasons": None, "correctness_count": 1,
    "messages": chat("assistant", THOUGHT),
}  # fmt: skip
S1K = {
    "solution": "4", "question": "What is 2+2?", "cot_type": "math", "source_type": "AI-MO/x",
    "metadata": "{}", "gemini_thinking_trajectory": "No.", "gemini_attempt": "5",
    "deepseek_thinking_trajectory": "Two and two.", "deepseek_attempt": "It is \\boxed{4}.",
    "gemini_grade": "No", "deepseek_grade": "Yes",
}  # fmt: skip
NVIDIA = {
    "problem": "What is 2+2?", "generated_solution": THOUGHT, "expected_answer": "4",
    "problem_type": "has_answer_extracted", "problem_source": "aops_c4_high_school_math",
    "generation_model": "QwQ-32B", "pass_rate_72b_tir": "0.65", "inference_mode": "cot",
    "used_in_kaggle": True,
}  # fmt: skip
METADATA = {
    "problem": "What is 2+2?", "deepseek_reasoning": "Two and two.", "domain": "math",
    "deepseek_solution": "It is \\boxed{4}.", "ground_truth_solution": "4", "source": "numina_math",
    "test_cases": None, "starter_code": None,
}  # fmt: skip
R1 = "deepseek-ai/DeepSeek-R1"
ROWS: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("openr1-math-220k", OPENR1, "math", "4", R1),
    ("openr1-math-220k", {**OPENR1, "question_type": "MCQ", "answer": "B"}, "choice", "B", R1),
    ("openr1-math-220k", {**OPENR1, "answer": "proof"}, "open", "Add them.", R1),
    (
        "mixture-of-thoughts",
        {"messages": chat("assistant", THOUGHT), "num_tokens": 12, "source": "open-r1/x"},
        "open", "", R1,
    ),
    (
        "openthoughts-114k",
        {"system": "Think.", "conversations": shared("user", "assistant", TAGGED)},
        "open", "", R1,
    ),
    ("openthoughts-114k-metadata", METADATA, "math", "4", R1),
    (
        "openthoughts-114k-metadata",
        {**METADATA, "domain": "code", "test_cases": '{"inputs": ["1"], "outputs": ["2"]}'},
        "code", '{"inputs": ["1"], "outputs": ["2"]}', R1,
    ),
    (
        "openthoughts3-1.2m",
        {"difficulty": 8, "source": "ai2", "domain": "math",
         "conversations": shared("human", "gpt", THOUGHT)},
        "open", "", "Qwen/QwQ-32B",
    ),
    ("s1k-1.1", S1K, "math", "4", R1),
    ("s1k-1.1", {**S1K, "cot_type": "crossword"}, "open", "4", R1),
    ("s1k-1.1", {**S1K, "solution": "Add.\n\nIt is $\\boxed{4}$."}, "math",
     "Add.\n\nIt is $\\boxed{4}$.", R1),
    ("s1k-1.1", {**S1K, "solution": "Add 2.\nAdd 2."}, "open", "Add 2.\nAdd 2.", R1),
    (
        "limo",
        {"question": "What is 2+2?", "answer": "4",
         "solution": "Two and two.\n\n**Final Answer**\n\nIt is \\boxed{4}."},
        "math", "4", "GAIR/LIMO",
    ),
    (
        "bespoke-stratos-17k",
        {"system": "Think.", "conversations": shared("user", "assistant", TAGGED)},
        "open", "", R1,
    ),
    ("am-deepseek-r1-distilled", am(source="x"), "open", "", R1),
    ("am-deepseek-r1-distilled", am(source="open_math", reference_answer="4"), "math", "4", R1),
    ("am-deepseek-r1-distilled", am(source="x", reference_answer="Four."), "open", "Four.", R1),
    ("am-deepseek-r1-distilled", am(None, source="x"), "open", "", R1),
    (
        "am-deepseek-r1-distilled",
        am(test_case='{"inputs": ["1"], "outputs": ["2"]}'),
        "code", '{"inputs": ["1"], "outputs": ["2"]}', R1,
    ),
    ("openmathreasoning", NVIDIA, "math", "4", "QwQ-32B"),
    (
        "multilingual-thinking",
        {"reasoning_language": "German", "messages": [
            {"role": "system", "content": "Think.", "thinking": None},
            {"role": "user", "content": "What is 2+2?", "thinking": None},
            {"role": "assistant", "content": "It is \\boxed{4}.", "thinking": "Two and two."},
        ]},
        "open", "", "HuggingFaceH4/Multilingual-Thinking",
    ),
    ("nemotron-post-training", NEMOTRON, "math", "4", "DeepSeek-R1-0528"),
    ("nemotron-post-training", {**NEMOTRON, "metadata": "none", "category": "stem"}, "open", "",
     "DeepSeek-R1-0528"),
    (
        "llama-nemotron-post-training",
        {"input": [{"role": "user", "content": "What is 2+2?"}], "output": THOUGHT,
         "category": "math", "generator": "DeepSeek-R1", "reasoning": "on"},
        "open", "", "DeepSeek-R1",
    ),
    (
        "llama-nemotron-post-training",
        {"input": "What is 2+2?", "output": THOUGHT, "generator": None}, "open", "",
        "nvidia/Llama-Nemotron-Post-Training-Dataset",
    ),
    ("qwq-longcot-130k", {"problem": "What is 2+2?", "qwq": THOUGHT, "source": "numina"}, "open",
     "", "Qwen/QwQ-32B-Preview"),
]  # fmt: skip


def jsonl(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def section(layout: str, path: str, **values: Any) -> ImportTeacher:
    return ImportTeacher.model_validate(
        {"engine": "import", "layout": layout, "path": path, **values}
    )


def taken(
    settings: ImportTeacher, heldout: list[Problem] | None = None
) -> tuple[list[ImportedRow], list[Trace], Counter[str]]:
    """The walk's steps, its traces, and what was left out."""
    dropped: Counter[str] = Counter()
    steps = list(walk(settings, heldout or []))
    traces = list(import_traces(settings, walk(settings, heldout or []), dropped))
    return steps, traces, dropped


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("layout", "row", "kind", "reference", "teacher"),
    ROWS,
    ids=[f"{row[0]}-{row[2]}-{n}" for n, row in enumerate(ROWS)],
)
def test_a_row_of_each_data_set(
    tmp_path: Path,
    layout: str,
    row: dict[str, Any],
    kind: str,
    reference: str,
    teacher: str,
    ending: str,
) -> None:
    path = tmp_path / f"rows.{ending}"
    if ending == "jsonl":
        jsonl(path, [row])
    else:
        pq.write_table(pa.Table.from_pylist([row]), path)
    steps, (trace,), dropped = taken(section(layout, str(path), revision="abc"))
    (step,) = steps
    problem = step.problem
    assert problem is not None
    assert (problem.prompt, problem.kind, problem.reference) == ("What is 2+2?", kind, reference)
    assert problem.source.startswith(layout)
    assert problem.id == trace.problem_id == problem_id("What is 2+2?", reference)
    if (
        "info" in row.get("messages", [{}])[0]
        and row["messages"][1]["info"]["think_content"] is None
    ):
        assert trace.reasoning == "None"
    else:
        assert trace.reasoning == "Two and two."
    answer = (trace.answer or "").removeprefix("**Final Answer**").strip()
    assert answer == "It is \\boxed{4}."
    assert (trace.finish, trace.sample, trace.error) == ("stop", 0, None)
    assert trace.completion_tokens == row.get("num_tokens", 0)
    who = trace.teacher
    assert (who.model, who.engine, who.revision) == (teacher, "import", "abc")
    assert not dropped


def test_what_a_data_set_claims_of_answers_is_not_taken_over(tmp_path: Path) -> None:
    rows = [OPENR1, {**S1K, "question": "q"}, {**NVIDIA, "problem": "r"}]
    for layout, row in zip(("openr1-math-220k", "s1k-1.1", "openmathreasoning"), rows, strict=True):
        ((step,), _, _) = taken(section(layout, jsonl(tmp_path / "r.jsonl", [row])))
        assert step.problem is not None
        claims = ("correctness_math_verify", "deepseek_grade", "used_in_kaggle")
        assert not set(claims) & step.problem.meta.keys()
    assert step.problem.meta == {
        "problem_type": "has_answer_extracted",
        "pass_rate_72b_tir": "0.65",
    }


def test_several_generations_and_how_they_ended(tmp_path: Path) -> None:
    row = {
        **OPENR1,
        "generations": [THOUGHT, "<think>\nTwo and", "<think>\nTw", None, THOUGHT],
        "is_reasoning_complete": [True, False, True, True, True],
        "finish_reasons": ["stop", None, "length", "stop", "stop"],
    }
    _, traces, dropped = taken(section("openr1-math-220k", jsonl(tmp_path / "r.jsonl", [row])))
    assert [t.finish for t in traces] == ["stop", "length", "length", "error"]
    assert [t.sample for t in traces] == [0, 1, 2, 3]
    assert [t.answer is None for t in traces] == [False, True, True, False]
    assert traces[3].error == "generation 3 has no text"
    assert dropped == {"duplicate": 1}


def test_rows_of_one_problem_merge_and_order_changes_no_identity(tmp_path: Path) -> None:
    rows = [
        {**NVIDIA, "problem": f"What is {n % 3}+2?", "generated_solution": f"<think>{n}</think>{n}"}
        for n in range(9)
    ]
    settings = section("openmathreasoning", jsonl(tmp_path / "a.jsonl", rows))
    steps, traces, _ = taken(settings)
    assert [step.status for step in steps] == ["new"] * 3 + ["more"] * 6
    assert sorted((t.problem_id, t.sample) for t in traces) == sorted(
        (step.problem.id, sample) for step in steps[:3] if step.problem for sample in range(3)
    )
    random.Random(1).shuffle(rows)
    other = section("openmathreasoning", jsonl(tmp_path / "b.jsonl", rows[:7]))
    again = {trace.id: trace.raw for trace in taken(other)[1]}
    first = {trace.id: trace.raw for trace in traces}
    assert len(first) == 9
    assert again.items() <= first.items()
    assert len(again) == 7


def test_held_out_problems_are_not_taken(tmp_path: Path) -> None:
    rows = [{**NVIDIA, "problem": p} for p in ("What is 1+1?", "What  is 2+2?", "What is 3+3?")]
    heldout = Problem(
        id=problem_id("What is 2+2?", "4"), prompt="What is 2+2?", reference="4", kind="math",
        source="s",
    )  # fmt: skip
    path = jsonl(tmp_path / "r.jsonl", rows)
    steps, traces, dropped = taken(section("openmathreasoning", path), [heldout])
    assert [step.status for step in steps] == ["new", "held_out", "new"]
    assert len(traces) == 2
    assert dropped == {"held_out": 1}


def test_size_ends_before_the_next_problem(tmp_path: Path) -> None:
    rows = [
        {**NVIDIA, "problem": p, "generated_solution": f"<think>{n}</think>4"}
        for n, p in enumerate("aabacab")
    ]
    path = jsonl(tmp_path / "r.jsonl", rows)
    steps, traces, _ = taken(section("openmathreasoning", path, size=2))
    assert [step.status for step in steps] == ["new", "more", "new", "more"]
    assert len(traces) == 4


def test_a_table_with_a_column_map(tmp_path: Path) -> None:
    rows: list[Any] = [
        {"q": "What is 2+2?", "a": ["It is 4.", "4"], "think": ["Two.", "Hm."], "gold": 4},
        {"q": "Why?", "a": ["So."], "think": ["Well."], "gold": None},
        {"q": "", "a": ["So."], "think": ["Well."], "gold": None},
        {"q": "Three?", "a": ["1", "2", "3"], "think": ["x", "y"], "gold": None},
    ]
    columns = {"prompt": "q", "response": "a", "reasoning": "think", "reference": "gold"}
    path = jsonl(tmp_path / "mine.jsonl", rows)
    steps, traces, dropped = taken(section("table", path, columns=columns, teacher="me"))
    assert [step.status for step in steps] == ["new", "new", "unreadable", "unreadable"]
    assert [s.problem.kind for s in steps if s.problem] == ["math", "open"]
    assert [(t.reasoning, t.answer, t.sample) for t in traces] == [
        ("Two.", "It is 4.", 0), ("Hm.", "4", 1), ("Well.", "So.", 0),
    ]  # fmt: skip
    assert {t.teacher.model for t in traces} == {"me"}
    assert dropped == {"unreadable": 2}


ASKED = {"role": "user", "content": "What is 2+2?"}
SYSTEM = {"role": "system", "content": "Think."}
TOLD = {"role": "assistant", "content": THOUGHT}
APART = {"role": "assistant", "content": "4", "reasoning_content": "Two."}
PARTS = {
    "role": "assistant",
    "content": [{"type": "thinking", "thinking": "Two."}, {"type": "text", "text": "4"}],
}
TABLES = [
    # (the row, the map of its columns, reasonings and answers)
    ({"prompt": [SYSTEM, ASKED], "response": "4"}, {}, [(None, "4")]),
    ({"prompt": [ASKED], "response": [APART]}, {}, [("Two.", "4")]),
    ({"prompt": [ASKED], "response": APART}, {}, [("Two.", "4")]),
    ({"prompt": [ASKED], "response": [APART, {**APART, "content": "5"}]}, {},
     [("Two.", "4"), ("Two.", "5")]),
    ({"prompt": [ASKED], "response": [[APART], [APART | {"content": "5"}]]}, {},
     [("Two.", "4"), ("Two.", "5")]),
    ({"prompt": json.dumps([ASKED]), "response": json.dumps([APART])}, {}, [("Two.", "4")]),
    ({"prompt": "What is 2+2?", "response": '[{"role": 4'}, {}, [(None, '[{"role": 4')]),
    ({"prompt": "What is 2+2?", "response": [SYSTEM, ASKED, APART]}, {}, [("Two.", "4")]),
    ({"prompt": "What is 2+2?", "response": [PARTS]}, {}, [("Two.", "4")]),
    ({"conversations": shared("human", "gpt", "<think>Two.</think>4")},
     {"prompt": "conversations", "response": "conversations"}, [("Two.", "4")]),
    ({"prompt": [ASKED], "reward_model": {"ground_truth": "4", "style": "rule"},
      "extra": {"said": {"answer": "4"}}},
     {"response": "extra.said.answer", "reference": "reward_model.ground_truth"}, [(None, "4")]),
]  # fmt: skip


# Here a column has values of several types, which Parquet can't.
MIXED = ({"chat": [ASKED, PARTS]}, {"prompt": "chat", "response": "chat"}, [("Two.", "4")])


@pytest.mark.parametrize(
    ("row", "columns", "said", "ending"),
    [(*case, ending) for case in TABLES for ending in ("jsonl", "parquet")] + [(*MIXED, "jsonl")],
)
def test_chats_and_structs_in_any_table(
    tmp_path: Path, row: Any, columns: dict[str, str], said: Any, ending: str
) -> None:
    path = tmp_path / f"rows.{ending}"
    if ending == "jsonl":
        jsonl(path, [row])
    else:
        pq.write_table(pa.Table.from_pylist([row]), path)
    ((step,), traces, _) = taken(section("table", str(path), columns=columns))
    assert step.problem is not None, step.wrong
    assert step.problem.prompt == "What is 2+2?"
    assert step.problem.reference == ("4" if "reference" in columns else "")
    assert [(trace.reasoning, trace.answer) for trace in traces] == said


def test_half_a_surrogate_pair_is_replaced(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "r.jsonl", [{"prompt": "a\ud800", "response": "\U0001f600 \udc00"}])
    ((step,), (trace,), _) = taken(section("table", path))
    assert step.problem is not None
    assert (step.problem.prompt, trace.raw) == ("a\ufffd", "\U0001f600 \ufffd")


def test_a_tables_own_names_and_optional_columns(tmp_path: Path) -> None:
    row = {
        "prompt": "p", "response": "<think>a</think>4", "tokens": 7, "finish": "length",
        "teacher": "t", "language": "de", "source": "s", "reference": "4",
    }  # fmt: skip
    path = jsonl(tmp_path / "mine.jsonl", [row])
    (step,), (trace,), _ = taken(section("table", path, kind="open"))
    assert step.problem is not None
    assert (step.problem.language, step.problem.kind, step.problem.source) == (
        "de",
        "open",
        "mine/s",
    )
    assert (trace.finish, trace.completion_tokens, trace.teacher.model) == ("length", 7, "t")


@pytest.mark.parametrize(
    ("layout", "row", "why"),
    [
        ("openr1-math-220k", {**OPENR1, "generations": []}, "no generations"),
        ("openr1-math-220k", {**OPENR1, "problem": None}, "no text in problem"),
        ("mixture-of-thoughts", {"messages": chat("user", "x")}, "not one turn of a user and one"),
        ("mixture-of-thoughts", {"messages": chat("assistant", "")}, "a turn without text"),
        ("mixture-of-thoughts", {"messages": "x"}, "no list of turns"),
        ("openthoughts3-1.2m", {"conversations": []}, "not one turn of a user and one"),
        ("openmathreasoning", {**NVIDIA, "inference_mode": "genselect"}, "genselect"),
        ("openmathreasoning", {**NVIDIA, "generated_solution": "n/a"}, "without a solution"),
        ("limo", {"question": "q", "solution": " ", "answer": "4"}, "no text in solution"),
        ("openmathreasoning", [1, 2], "not a JSON object"),
        ("table", {"prompt": "p", "response": "r", "finish": "eos"}, "finish is 'eos'"),
        ("table", {"prompt": [ASKED, TOLD, ASKED], "response": "r"}, "2 turns of a user"),
        ("table", {"prompt": "p", "response": [ASKED, TOLD] * 4}, "one answer, but 8 turns"),
    ],
)
def test_a_row_that_can_not_be_read_says_why(
    tmp_path: Path, layout: str, row: Any, why: str
) -> None:
    good = {row[0]: row[1] for row in ROWS}.get(layout, {"prompt": "p", "response": "r"})
    path = jsonl(tmp_path / "r.jsonl", [good, row])
    steps, _, dropped = taken(section(layout, path))
    assert [step.status for step in steps] == ["new", "unreadable"]
    assert why in steps[1].wrong
    assert steps[1].place == "r.jsonl, line 2"
    assert dropped == {"unreadable": 1}


def test_a_torn_line_is_a_row_that_can_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(f'{json.dumps(NVIDIA)}\n{{"problem": "x", "gen\n\n{json.dumps(NVIDIA)}\n')
    steps, _, _ = taken(section("openmathreasoning", str(path)))
    assert [step.status for step in steps] == ["new", "unreadable", "more"]
    assert "not JSON" in steps[1].wrong


def test_a_folder_and_a_glob_are_read_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name, number in (("b.jsonl", 2), ("a.jsonl", 1), ("c.txt", 3)):
        jsonl(tmp_path / "data" / name, [{"prompt": f"p{number}", "response": "r"}])
    for path in (str(tmp_path / "data"), str(tmp_path / "d*" / "*.jsonl")):
        steps, _, _ = taken(section("table", path))
        assert [step.problem.prompt for step in steps if step.problem] == ["p1", "p2"]


def test_packed_files_are_read_and_broken_ones_named(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"prompt": f"p{n}", "response": "r" * 999}) + "\n" for n in range(99))
    for name in ("r.jsonl.gz", "r.jsonl.zst"):
        with pa.output_stream(str(tmp_path / name), compression="detect") as file:
            file.write(rows.encode())
        steps, _, _ = taken(section("table", str(tmp_path / name)))
        assert len(steps) == 99
    packed = (tmp_path / "r.jsonl.gz").read_bytes()
    (tmp_path / "s.jsonl.gz").write_bytes(b"nothing" + packed)
    with pytest.raises(ValueError, match=r"s\.jsonl\.gz can't be read"):
        taken(section("table", str(tmp_path / "s.jsonl.gz")))


def test_every_layout_has_its_name_in_the_recipe() -> None:
    names = get_args(ImportTeacher.model_fields["layout"].annotation)
    assert {row[0] for row in ROWS} | {"table"} == set(names)
    for name in names:
        place = {"path": "x"} if name == "table" else {}
        settings = ImportTeacher.model_validate({"engine": "import", "layout": name, **place})
        assert format_of(settings).needs


def test_a_data_set_is_streamed_through_datasets(tmp_path: Path) -> None:
    """A folder stands for the hub, which no test may reach."""
    table = pa.Table.from_pylist([NVIDIA, {**NVIDIA, "problem": "q"}])
    (tmp_path / "data").mkdir()
    pq.write_table(table, tmp_path / "data" / "cot-00000-of-00001.parquet")
    values = {"engine": "import", "layout": "openmathreasoning", "dataset": str(tmp_path)}
    settings = ImportTeacher.model_validate({**values, "split": "cot"})
    steps, traces, _ = taken(settings)
    assert [step.status for step in steps] == ["new", "new"]
    assert len(traces) == 2
    with pytest.raises(ValueError, match="can't be read from the hub"):
        taken(ImportTeacher.model_validate({**values, "split": "none"}))
    with pytest.raises(ValueError, match="has no column answer, generations"):
        taken(
            ImportTeacher.model_validate({**values, "layout": "openr1-math-220k", "split": "cot"})
        )


@pytest.mark.parametrize(
    ("layout", "rows", "message"),
    [
        ("openr1-math-220k", [NVIDIA], "has no column answer, generations, only problem"),
        ("table", [{"prompt": "p", "answer": "a"}], "has no column response, only prompt, answer"),
        (
            "mixture-of-thoughts",
            [{"messages": n} for n in range(100)],
            "none of the first 100 rows",
        ),
    ],
)
def test_a_wrong_layout_is_named(
    tmp_path: Path, layout: str, rows: list[dict[str, Any]], message: str
) -> None:
    for name in ("r.jsonl", "r.parquet"):
        path = tmp_path / name
        if name == "r.jsonl":
            jsonl(path, rows)
        else:
            pq.write_table(pa.Table.from_pylist(rows), path)
        with pytest.raises(ValueError, match=message):
            taken(section(layout, str(path)))


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    (tmp_path / "r.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "r.csv").write_text("a,b\n")
    for name, message in (
        ("r.parquet", "can't be read"),
        ("r.csv", "does not end in"),
        ("no.jsonl", r"there is no .*\.jsonl"),
    ):
        with pytest.raises(ValueError, match=message):
            taken(section("table", str(tmp_path / name)))


def test_another_content_is_another_import(tmp_path: Path) -> None:
    first = section("table", jsonl(tmp_path / "a.jsonl", [{"prompt": "p", "response": "r"}]))
    moved = section("table", jsonl(tmp_path / "b.jsonl", [{"prompt": "p", "response": "r"}]))
    other = section("table", jsonl(tmp_path / "c.jsonl", [{"prompt": "p", "response": "s"}]))
    assert fingerprint(first) == fingerprint(moved) != fingerprint(other)
    hub = ImportTeacher(engine="import", layout="limo")
    assert fingerprint(hub) != fingerprint(hub.model_copy(update={"revision": "abc"}))


# -- through a recipe ----------------------------------------------------------------------

RECIPE = """\
name: imported
problems:
  heldout:
    - {{source: file, path: heldout.jsonl}}
generate:
  engine: import
  layout: {layout}
  path: {path}
filter:
  keep: [correct, unverifiable]
finetune:
  student: {root}/miniature/student
  template: {root}/recipes/templates/miniature.jinja
  stop: "<|end|>"
"""


def recipe(folder: Path, layout: str, path: str, **changes: str) -> Path:
    jsonl(folder / "heldout.jsonl", [{"prompt": "What is 1+1?", "reference": "2"}])
    text = RECIPE.format(root=ROOT, layout=layout, path=path)
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    file = folder / "r.yaml"
    file.write_text(text)
    return file


def ran(file: Path) -> subprocess.CompletedProcess[str]:
    return run_tracestill("run", file, "--out", file.parent / "run", "--to", "filter", "--quiet")


def test_the_whole_line_with_imported_traces(tmp_path: Path) -> None:
    wrong = THOUGHT.replace("boxed{4}", "boxed{5}")
    rows: list[Any] = [
        {**OPENR1, "generations": [THOUGHT, wrong, "<think>\nTwo"],
         "is_reasoning_complete": [True, True, False]},
        {**OPENR1, "problem": "What is 1+1?"},
        {**OPENR1, "generations": []},
        {**OPENR1, "generations": [THOUGHT.replace("Two and", "Again two and")]},
    ]  # fmt: skip
    (tmp_path / "data").mkdir()
    jsonl(tmp_path / "data" / "r.jsonl", rows)
    file = recipe(tmp_path, "openr1-math-220k", "data")
    done = ran(file)
    assert done.returncode == 0, done.stderr + done.stdout
    run = tmp_path / "run"
    problems = read_manifest(run / "problems")
    assert problems is not None
    assert problems.rows_in == 5  # four rows and a held-out problem
    assert problems.dropped == {"same_problem": 1, "held_out": 1, "unreadable": 1}
    (unreadable,) = read_table(run / "problems", "unreadable", Drop)
    assert (unreadable.trace_id, unreadable.detail) == ("r.jsonl, line 3", "no generations")
    traces = list(read_table(run / "generate", "traces", Trace))
    assert [(t.sample, t.finish) for t in traces] == [
        (0, "stop"), (1, "stop"), (2, "length"), (3, "stop"),
    ]  # fmt: skip
    outcomes = {v.trace_id: v.outcome for v in read_table(run / "filter", "verdicts", Verdict)}
    assert [outcomes.get(t.id) for t in traces] == ["correct", "incorrect", None, "correct"]
    made = read_manifest(run / "generate")
    assert made is not None
    assert made.dropped == {"held_out": 1, "unreadable": 1}
    assert isinstance(made.figures, SamplingFigures)
    assert (made.figures.problems, made.figures.length) == (1, 1)

    before = (run / "generate" / "manifest.json").stat().st_mtime_ns
    assert ran(file).returncode == 0
    assert (run / "generate" / "manifest.json").stat().st_mtime_ns == before
    jsonl(tmp_path / "data" / "s.jsonl", [{**OPENR1, "problem": "What is 3+1?"}])
    assert ran(file).returncode == 0
    assert len(list(read_table(run / "generate", "traces", Trace))) == 5


def test_every_layout_through_the_line(tmp_path: Path) -> None:
    """One run for each would take minutes: the stages in this process do the same."""
    for number, (layout, row, *_) in enumerate(ROWS):
        folder = tmp_path / str(number)
        folder.mkdir()
        jsonl(folder / "r.jsonl", [row])
        checked = load_recipe(recipe(folder, layout, "r.jsonl"))
        check_paths(checked)
        for stage in ("problems", "generate", "filter"):
            make_stage(stage, checked, folder / "run", ignore_progress)
        result = read_manifest(folder / "run" / "filter")
        assert result is not None
        assert result.rows_in == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "hold no problem to distil from: of 0 rows"),
        ([{**OPENR1, "problem": "What is 1+1?"}], "1 are of held-out problems"),
        ([{**OPENR1, "generations": []}], "r.jsonl, line 1: no generations"),
        ([NVIDIA], "has no column answer, generations"),
    ],
)
def test_data_without_a_problem_end_in_one_line(
    tmp_path: Path, rows: list[Any], message: str
) -> None:
    jsonl(tmp_path / "r.jsonl", rows)
    checked = load_recipe(recipe(tmp_path, "openr1-math-220k", "r.jsonl"))
    with pytest.raises(ValueError, match=r"problem|column") as caught:
        make_stage("problems", checked, tmp_path / "run", ignore_progress)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("layout: limo", "layout: limmo", "generate.layout"),
        ("path: r.jsonl", "path: none.jsonl", "there is no .parquet"),
        ("path: r.jsonl", "path: r.jsonl\n  dataset: GAIR/LIMO", "`path` or `dataset`, not both"),
        ("path: r.jsonl", "columns: {prompt: q}", "`columns` are for `layout: table`"),
        ("layout: limo\n  path: r.jsonl", "layout: table", "say where the table is"),
        ("path: r.jsonl", "path: r.jsonl\n  temperature: 1", "unknown key"),
        ("  heldout:", "  train: [{source: file, path: heldout.jsonl}]\n  heldout:",
         "r.yaml, line 3: problems.train: leave it out"),
        ("finetune:", "evaluate: {models: [teacher]}\nfinetune:",
         "r.yaml, line 11: evaluate.models: leave out teacher"),
        ("engine: import\n  layout: limo\n  path: r.jsonl", "model: some/model",
         "problems.train: name at least one source"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_section_is_one_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    jsonl(tmp_path / "r.jsonl", [])
    file = recipe(tmp_path, "limo", "r.jsonl", **{old: new})
    with pytest.raises(RecipeError) as caught:
        check_paths(load_recipe(file))
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
