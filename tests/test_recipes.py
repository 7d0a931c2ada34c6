"""The shipped recipes: what each says of itself, that it is good, what it takes, and that it runs,
scaled down; the commands `recipes` and `new`.
"""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from conftest import ROOT, run_tracestill
from scripted import completion, reply, scripted
from test_importing import OPENR1, ROWS, jsonl

from finetune.planner import devices
from tracestill.planning.shipped import LABELS, names, read_about, shipped, training_plan
from tracestill.recipe.generate import ImportTeacher, LocalTeacher
from tracestill.recipe.loading import dump_recipe, load_recipe
from tracestill.recipe.paths import check_paths
from tracestill.recipe.schema import Recipe
from tracestill.records import Problem, Trace, read_manifest, read_table
from tracestill.records.progress import ignore_progress
from tracestill.run.pipeline import make_stage

# Students whose sizes are not in the planner's table: `plan` says how to fetch their config.json.
UNPLANNED = {"teuken-7b-de"}
SECONDS = 1.0


@pytest.mark.parametrize("name", names())
def test_a_recipe_says_what_it_is(name: str) -> None:
    one = shipped(name)
    assert one.recipe.name == name
    assert one.recipe.description
    assert list(one.about) == list(LABELS), "the labels at the recipe's head, in this order"
    assert all(one.about.values())
    if one.gpu is not None:
        assert devices.named(one.gpu).cuda
    for label in ("Teacher", "Data", "Student"):
        said = re.search(r"Apache|MIT|CC-BY|licen[cs]e|terms|people", one.about[label], re.I)
        assert said, f"{label}: says no licence"


def test_every_recipe_validates_in_a_second_without_torch() -> None:
    script = (
        "import sys, time\n"
        "for name in ('torch', 'transformers', 'vllm', 'trl'): sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from tracestill.commands.validate import validate\n"
        "for path in sys.argv[1:]:\n"
        "    begin = time.process_time()\n"
        "    validate(Path(path), None)\n"
        "    print('TOOK', path, time.process_time() - begin)\n"
    )
    paths = [str(shipped(name).path) for name in names()]
    done = subprocess.run([sys.executable, "-c", script, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    took = re.findall(r"^TOOK (\S+) (\S+)$", done.stdout, re.M)
    assert [path for path, _ in took] == paths
    assert {path: seconds for path, seconds in took if float(seconds) > SECONDS} == {}


@pytest.mark.parametrize("name", names())
def test_a_recipe_fits_the_gpu_that_it_names(name: str) -> None:
    one = shipped(name)
    if one.gpu is None:
        return  # for a CPU, which `plan` measures
    if name in UNPLANNED:
        with pytest.raises(ValueError, match=r"hf download \S+ config\.json"):
            training_plan(one.recipe, one.gpu)
        return
    assert training_plan(one.recipe, one.gpu).fits


# -- scaled down to the miniature --------------------------------------------------------------


def scaled(name: str, folder: Path, *more: str) -> Recipe:
    """A recipe with the miniature student, short rows and local files in the place of what it
    reads from a hub; its other settings stay.
    """
    questions = [{"prompt": f"What is {n}+{n}?", "reference": str(2 * n)} for n in range(50, 54)]
    jsonl(folder / "heldout.jsonl", questions)
    held = json.dumps([{"source": "file", "path": str(folder / "heldout.jsonl")}])
    one = shipped(name)
    overrides = [
        f"problems.heldout={held}",
        f"finetune.student={ROOT}/miniature/student",
        f"finetune.template={ROOT}/recipes/templates/miniature.jinja",
        "finetune.trust_remote_code=false",
        "finetune.quantize=none",
        "finetune.launch={}",
        "finetune.max_length=256",
        "finetune.batch_size=2",
        "finetune.epochs=1",
        "evaluate.max_tokens=64",
        "evaluate.forgetting=[]",
    ]
    if one.recipe.problems.decontaminate:
        exam = jsonl(folder / "exam.jsonl", [{"prompt": "In how many ways is a board tiled?"}])
        mine = {"name": "exam", "source": "file", "path": exam}
        overrides.append(f"problems.decontaminate.benchmarks={json.dumps([mine])}")
    recipe = load_recipe(one.path, [*overrides, *more])
    check_paths(recipe)
    return recipe


def filtered(recipe: Recipe, run: Path) -> None:
    """Run to the end of the filter, which keeps something and accounts for all of it."""
    for stage in ("problems", "generate", "filter"):
        make_stage(stage, recipe, run, ignore_progress)
    result = read_manifest(run / "filter")
    assert result is not None
    assert result.rows_out >= 1, result.dropped
    assert result.rows_in == result.rows_out + sum(result.dropped.values())


PROGRAM = {
    "problem": "Read two numbers and print their sum.", "domain": "code", "starter_code": None,
    "deepseek_reasoning": "Read both numbers of the line, and add them.",
    "deepseek_solution": "```python\na, b = map(int, input().split())\nprint(a + b)\n```",
    "test_cases": '{"inputs": ["1 2\\n", "5 5\\n"], "outputs": ["3\\n", "10\\n"]}',
    "ground_truth_solution": None, "source": "apps",
}  # fmt: skip
WRONG = {**PROGRAM, "problem": "Read two numbers and print their sum, please.",
         "deepseek_solution": "```python\nprint(3)\n```"}  # fmt: skip
GSM8K = {"question": "What is 2+2?", "answer": "Two and two are 4.\n#### 4"}
IMPORTS = [name for name in names() if isinstance(shipped(name).recipe.generate, ImportTeacher)]


def rows_of(name: str, layout: str) -> list[dict[str, Any]]:
    """A few rows in the columns of the data set that a recipe imports."""
    if layout != "table":
        return [row for known, row, *_ in ROWS if known == layout]
    return [PROGRAM, WRONG] if name == "code-qwen-7b" else [GSM8K]


# Its filter lets the student answer the problems first, in a real engine.
ASKS_STUDENT = "light-r1-two-stage"


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name == ASKS_STUDENT else name
     for name in IMPORTS],
)  # fmt: skip
def test_an_importing_recipe_filters_rows_of_its_data_set(name: str, tmp_path: Path) -> None:
    if name == "code-qwen-7b" and shutil.which("bwrap") is None:
        pytest.skip("programs are judged in bubblewrap, which is not installed")
    teacher = shipped(name).recipe.generate
    assert isinstance(teacher, ImportTeacher)
    place = jsonl(tmp_path / "rows.jsonl", rows_of(name, teacher.layout))
    local = [f"generate.{key}=null" for key in ("dataset", "config", "split")]
    if name == ASKS_STUDENT:
        local.append("filter.student={samples: 2, max_tokens: 32}")
    recipe = scaled(name, tmp_path, f"generate.path={place}", *local)
    filtered(recipe, tmp_path / "run")
    if name == "code-qwen-7b":
        result = read_manifest(tmp_path / "run" / "filter")
        assert result is not None
        assert result.dropped == {"incorrect": 1}


ENGLISH = (
    "We want to know what is the sum of the two numbers in the question. Adding a number to itself "
    "means doubling it, so we take the number two times and then write the result as the answer."
)
GERMAN = (
    "Wir wollen wissen, wie groß die Summe der beiden Zahlen in der Frage ist. Eine Zahl zu sich "
    "selbst zu zählen heißt, sie zu verdoppeln, also nehmen wir sie zweimal und schreiben das auf."
)


@pytest.mark.parametrize("name", ["private", "teacher-api-deepseek", "teuken-7b-de"])
def test_a_recipe_filters_what_a_server_answers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thought = GERMAN if name == "teuken-7b-de" else ENGLISH

    def answer(request: web.Request, body: dict[str, Any], before: int) -> web.Response:
        number = int(re.findall(r"(\d+)\+", body["messages"][-1]["content"])[0])
        if number == 7:  # what the recipe's filter has to drop: another language, a private address
            return reply(completion(f"<think>\n{other}\n</think>\n\n\\boxed{{14}}"))
        said = f"{thought} {number}+{number}={2 * number}."
        return reply(completion(f"<think>\n{said}\n</think>\n\n\\boxed{{{2 * number}}}"))

    other = (
        f"{ENGLISH} 7+7=14."
        if name == "teuken-7b-de"
        else f"{ENGLISH} 7+7=14. Ask jane.doe@somewhere.org."
    )
    monkeypatch.setenv("DEEPSEEK_API_KEY", "k-not-a-key")
    with scripted(answer) as server:
        rows = [{"prompt": f"What is {n}+{n}?", "reference": str(2 * n)} for n in range(1, 9)]
        train = [{"source": "file", "path": jsonl(tmp_path / "train.jsonl", rows)}]
        if name == "teuken-7b-de":
            train[0]["language"] = "de"
        own = shipped(name).recipe.generate
        said = own.model_dump(mode="json", include={"samples", "temperature", "top_p", "budget"})
        asked = {**said, "engine": "openai", "model": "m", "base_urls": [server.url]}
        recipe = scaled(
            name, tmp_path, f"problems.train={json.dumps(train)}",
            *([f"generate={json.dumps({**asked, 'max_tokens': 200})}"]
              if isinstance(own, LocalTeacher)
              else [f"generate.base_urls=[{server.url}]", "generate.max_tokens=200"]),
        )  # fmt: skip
        filtered(recipe, tmp_path / "run")
    dropped = read_manifest(tmp_path / "run" / "filter").dropped  # type: ignore[union-attr]
    if name == "teuken-7b-de":
        assert dropped.get("other_language"), dropped
    if name == "private":
        assert dropped.get("email"), dropped


TRAIN = json.dumps(
    [
        {
            "source": "reasoning_gym", "family": "chain_sum", "size": 8, "seed": 1,
            "buckets": {"of": 10, "keep": [1]},
            "config": {"min_terms": 6, "max_terms": 8, "min_digits": 1, "max_digits": 1},
        }
    ]
)  # fmt: skip
SAMPLED = [
    name for name in names()
    if isinstance(shipped(name).recipe.generate, LocalTeacher) and name != "teuken-7b-de"
]  # fmt: skip
MINIATURE = [
    f"problems.train={TRAIN}", "problems.instruction=null",
    f"generate.model={ROOT}/miniature/teacher", "generate.quantization=null",
    "generate.engine_args={}", "generate.temperature=1.0", "generate.top_p=1.0",
    "generate.max_tokens=200", "generate.max_model_len=256",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)  # on a machine that does other work too
def test_sampling_recipes_filter_what_the_miniature_teacher_answers(tmp_path: Path) -> None:
    journal: Path | None = None
    for name in SAMPLED:
        folder = tmp_path / name
        (folder / "run" / "generate").mkdir(parents=True)
        if journal is not None:  # same teacher, same problems: what is there is not sampled again
            shutil.copy(journal, folder / "run" / "generate" / "journal.jsonl")
        filtered(scaled(name, folder, *MINIATURE), folder / "run")
        journal = folder / "run" / "generate" / "journal.jsonl"


def whole(name: str, folder: Path, *more: str) -> None:
    """Run a scaled recipe to its report, by the command."""
    recipe = scaled(name, folder, "evaluate.models=[student_after]", *more)
    (folder / "r.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    done = run_tracestill("run", folder / "r.yaml", "--out", folder / "run", "--quiet")
    assert done.returncode == 0, done.stderr
    assert (folder / "run" / "report.html").is_file()
    assert "student_after" in (folder / "run" / "summary.json").read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)  # on a machine that does other work too
def test_a_sampling_recipe_runs_to_the_end(tmp_path: Path) -> None:
    whole("card-24gb-1.5b", tmp_path, *MINIATURE)


@pytest.mark.slow
@pytest.mark.timeout(900)  # on a machine that does other work too
def test_an_importing_recipe_runs_to_the_end(finished: Path, tmp_path: Path) -> None:
    problems = {one.id: one for one in read_table(finished / "problems", "train", Problem)}
    rows = [
        {**OPENR1, "problem": problems[one.problem_id].prompt,
         "answer": problems[one.problem_id].reference,
         "generations": [f"<think>\n{one.reasoning}\n</think>\n\n{one.answer}"]}
        for one in read_table(finished / "generate", "traces", Trace)
        if one.finish == "stop" and "sum" in problems[one.problem_id].source
    ]  # fmt: skip
    place = jsonl(tmp_path / "rows.jsonl", rows)
    more = [f"generate.path={place}", "problems.instruction=null"]
    whole("openr1-math-7b", tmp_path, *more, "filter.keep=[correct, unverifiable]")


# -- the commands --------------------------------------------------------------------------------


def test_recipes_lists_them_and_tells_each_ones_page(tmp_path: Path) -> None:
    listed = run_tracestill("recipes", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    for name in names():
        assert f"{name}: {shipped(name).recipe.description}" in listed.stdout
    page = run_tracestill("recipes", "teacher-api-deepseek", cwd=tmp_path).stdout
    flat = " ".join(page.split())
    for part in ("RTX 4090", "it fits", "asked at api.deepseek.com", "money: 50.00 at most",
                 "not measured", "tracestill plan", "MIT", "GB for the student's weights",
                 "hours of training", "nothing yet beyond a dry run"):  # fmt: skip
        assert part in flat, part
    missing = run_tracestill("recipes", "teuken-7b-de", cwd=tmp_path)
    assert "hf download openGPT-X/Teuken" in " ".join(missing.stdout.split())
    wrong = run_tracestill("recipes", "r2-distill", cwd=tmp_path)
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("tracestill: there is no recipe r2-distill; shipped are ")
    assert len(wrong.stderr.splitlines()) == 1


ANSWERS = {
    "gpu": "24GB", "student": "Qwen/Qwen2.5-7B", "problems": "gsm8k",
    "teacher": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "budget": "20M tokens",
}  # fmt: skip


def told(folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    options = [f"--{name}={said}" for name, said in {**ANSWERS, **changes}.items() if said]
    return run_tracestill("new", "mine.yaml", *options, cwd=folder)


def test_new_writes_a_recipe_that_fits_and_overwrites_none(tmp_path: Path) -> None:
    made = told(tmp_path)
    assert made.returncode == 0, made.stderr
    for command in ("validate mine.yaml", "plan mine.yaml --pilot 0 --gpu '24GB'", "run mine.yaml"):
        assert f"tracestill {command}" in made.stdout
    recipe = load_recipe(tmp_path / "mine.yaml")
    check_paths(recipe)
    assert isinstance(recipe.generate, LocalTeacher)
    assert recipe.generate.budget.tokens == 20_000_000
    assert training_plan(recipe, "24GB").fits
    before = (tmp_path / "mine.yaml").read_bytes()
    again = told(tmp_path, student="Qwen/Qwen2.5-1.5B")
    assert again.returncode == 1
    assert "mine.yaml is there already" in again.stderr
    assert (tmp_path / "mine.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"teacher": "import:openr1-math-220k", "budget": "none"}, "layout: openr1-math-220k"),
        ({"teacher": "R1@https://api.example.org/v1"}, "- api.example.org"),
        ({"teacher": "R1@http://127.0.0.1:8000/v1"}, "engine: openai"),
        ({"problems": "gym:chain_sum,ab", "budget": "none"}, "family: ab"),
        ({"gpu": "none", "student": f"{ROOT}/miniature/student"}, "max_length: 512"),
        ({"student": "Qwen/Qwen2.5-Math-7B"}, "max_length: 4096"),
    ],
)
def test_new_knows_each_kind_of_answer(tmp_path: Path, changes: dict[str, str], part: str) -> None:
    made = told(tmp_path, **changes)
    assert made.returncode == 0, made.stderr
    assert part in (tmp_path / "mine.yaml").read_text()
    assert run_tracestill("validate", "mine.yaml", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"gpu": "H2000"}, "--gpu H2000: not known"),
        ({"student": "Qwen"}, "is no hub id"),
        ({"student": "./nothing"}, "does not exist"),
        ({"problems": "math"}, "is none of gsm8k, openr1-math"),
        ({"problems": "mine.jsonl"}, "there is no file mine.jsonl"),
        ({"teacher": "R1"}, "MODEL@URL"),
        ({"teacher": "import:r1"}, "is no data set known"),
        ({"teacher": "R1@api.example.org"}, "write MODEL@http"),
        ({"budget": "50 euros"}, "write none, or such as '20M tokens'"),
        ({"teacher": "import:limo"}, "imported traces cost nothing"),
        ({"gpu": ""}, "--gpu is missing, and there is no terminal"),
    ],
)
def test_new_says_in_a_line_what_is_wrong(
    tmp_path: Path, changes: dict[str, str], line: str
) -> None:
    wrong = told(tmp_path, **changes)
    assert wrong.returncode == 1
    assert line in wrong.stderr
    assert len(wrong.stderr.splitlines()) == 1
    assert not (tmp_path / "mine.yaml").exists()


def test_new_asks_a_person_until_an_answer_is_right(tmp_path: Path) -> None:
    """At a terminal: Enter takes what is offered, a wrong answer is told and asked again."""
    answers = ["", "Qwen", "Qwen/Qwen2.5-1.5B", "", "50 euros", "20M tokens"]
    person, terminal = pty.openpty()
    try:
        asked = subprocess.Popen(
            [sys.executable, "-m", "tracestill", "new", "mine.yaml", "--problems", "gsm8k"],
            stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        )  # fmt: skip
        os.write(person, "".join(f"{answer}\n" for answer in answers).encode())
        out, err = asked.communicate(timeout=120)
    finally:
        os.close(person)
        os.close(terminal)
    assert asked.returncode == 0, err
    assert out.count("Student (a hub id or a folder)") == 2
    assert "is no hub id" in err
    assert "write none, or such as '20M tokens'" in err
    assert "Problems" not in out  # an option said it
    recipe = load_recipe(tmp_path / "mine.yaml")
    assert recipe.finetune.student == "Qwen/Qwen2.5-1.5B"
    assert recipe.generate.budget.tokens == 20_000_000


def test_labels_at_a_recipes_head(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("# yaml-language-server: x\n# What: a\n#   b\n# GPU: none\nname: r\n# Run: c\n")
    assert read_about(path) == {"What": "a b", "GPU": "none"}
