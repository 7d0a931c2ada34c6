"""Every command on the pages exists with its options, and those that need no engine really run."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, TINY, run_tracestill
from test_importing import OPENR1, jsonl

import tracestill
from website.command_line import commands, options

PAGES = [
    *sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "benchmarks").glob("*.md")), *sorted((ROOT / "miniature").rglob("*.md")),
]  # fmt: skip
COMMANDS = commands()
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))

# Programs of others: what they are given is checked by nobody here.
FOREIGN = {
    "cd": "the shell's", "source": "the shell's", "hf": "the hub's own, and asks for a password",
    "inspect": "inspect_ai's, of which test_harness.py checks the logs",
    "llama-server": "llama.cpp's: test_gguf_out.py reads the file that it is given",
    "ollama": "not installed here: test_gguf_out.py reads the Modelfile that it is given",
    "vllm": "the server: test_served.py starts it by `tracestill serve`",
    ".venv/bin/pre-commit": "runs what make check does",
}  # fmt: skip

# Commands of which not each shown call is run here, and the test that runs them.
ELSEWHERE = {
    "run": ("loads vLLM and trains", "test_pipeline.py"),
    "generate": ("loads vLLM", "test_kills.py"),
    "filter": ("makes the stages before it; its dry run is run here", "test_pipeline.py"),
    "finetune": ("trains", "test_kills.py"),
    "report": ("makes the stages before it", "test_pipeline.py"),
    "evaluate": ("loads vLLM", "test_evaluate_models.py"),
    "harness": ("needs an evaluation on a benchmark", "test_harness.py"),
    "chat": ("loads the student", "test_chat.py"),
    "export": ("needs llama.cpp", "test_gguf_out.py"),
    "pairs": ("loads the student's tokenizer", "test_pairs.py"),
    "push": ("sends to the hub; its dry run is run here", "test_push.py"),
    "plan": ("samples, or measures this CPU, unless told not to", "test_planner_command.py"),
    "preview": ("loads the student's tokenizer", "test_preview.py"),
    "score": ("loads the student", "test_scoring.py"),
    "serve": ("starts vLLM's server", "test_served.py"),
    "ablate": ("runs recipes; its plan is run here", "test_ablate.py"),
    "view": ("serves until it is ended", "test_view_guard.py"),
    "status": ("with --watch it draws on a terminal", "test_status.py"),
    "new": ("asks at a terminal where no option says it", "test_recipes.py"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shown:
    """A command in a block of a page: its program, and what it is given."""

    page: Path
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.stem}: {' '.join(self.words)}"[:90]


def blocks(page: Path) -> list[tuple[str, str]]:
    """The blocks of code on a page: language and text."""
    return re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.S | re.M)


def lines(page: Path) -> Iterator[str]:
    """The lines of a page's shell blocks, continued ones as one. With a prompt (`console`) stands
    what the commands print, too.
    """
    for language, text in blocks(page):
        for line in text.replace("\\\n", " ").splitlines():
            if language == "sh" or (language == "console" and line.startswith("$ ")):
                yield line


def parsed(line: str) -> Iterator[tuple[str, ...]]:
    """The commands of a shell's line, without variables, redirections and the prompt."""
    lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="&<>")
    lexer.whitespace_split = True
    words: list[str] = []
    redirected = False
    for word in [*lexer, "&&"]:
        if word in ("<", ">"):
            redirected = True
        elif redirected:
            redirected = False
        elif word != "&&":
            words.append(word)
        else:
            while words and re.match(r"[A-Z_]+=", words[0]):
                words.pop(0)
            if words:
                yield tuple(words)
            words = []


SHOWN = list(
    dict.fromkeys(
        Shown(page, words) for page in PAGES for line in lines(page) for words in parsed(line)
    )
)
OURS = [
    Shown(one.page, one.words[1:])
    for one in SHOWN
    if one.words[0] in ("tracestill", ".venv/bin/tracestill")
]


def unknown(name: str, words: tuple[str, ...]) -> list[str]:
    """The options among the words that the command does not have."""
    given = [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    return [word for word in given if word not in options(COMMANDS[name])]


def test_a_block_shows_programs_that_are_known() -> None:
    assert len(OURS) > 50, "the pages are read"
    for one in SHOWN:
        program, *rest = one.words
        if program == "make":
            assert rest[0] in TARGETS, one
        elif program not in ("tracestill", ".venv/bin/tracestill"):
            assert program in FOREIGN, one


@pytest.mark.parametrize("one", OURS, ids=str)
def test_a_shown_command_is_read(one: Shown) -> None:
    """By the command's own parser: its options, their values and the arguments it must have."""
    name, *rest = one.words
    assert name in COMMANDS, one
    if "--help" not in rest:
        COMMANDS[name].make_context(name, [word for word in rest if word != "--debug"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_command_in_the_text_exists_with_its_options(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
    for inline in re.findall(r"(?<!`)`((?:\.venv/bin/)?tracestill [^`]+)`(?!`)", text):
        name, *rest = " ".join(inline.split()).split(" ")[1:]
        if name.isupper() or name == "--help":
            continue
        assert name in COMMANDS, inline
        assert unknown(name, tuple(rest)) == [], inline


def test_no_shell_block_is_left_unmarked() -> None:
    """A block with commands says so, or the tests above would not read it."""
    command = re.compile(r"(\$ )?([A-Z_]+=\S+ )?(\.venv/bin/)?(tracestill|make) [a-z.]", re.M)
    for page in PAGES:
        for language, text in blocks(page):
            marked = language in ("sh", "console", "python", "text", "yaml")
            assert marked or not command.match(text), f"{page.name}: {text[:60]}"


# -- what needs no engine is run ---------------------------------------------------------------

READY = {"validate", "recipes", "doctor", "why", "compare", "verify", "curate", "schema"}


def runs_here(words: tuple[str, ...]) -> bool:
    name = words[0]
    if name in READY:
        return True
    return (
        (name in ("filter", "push") and "--dry-run" in words)
        or (name == "ablate" and "--plan" in words)
        or (name == "plan" and {"--pilot", "--gpu"} <= set(words))
        or (name == "status" and "--watch" not in words)
        or (name == "new" and "--gpu" in words)
    )


@pytest.mark.parametrize("name", sorted({one.words[0] for one in OURS}))
def test_what_is_not_run_here_is_run_by_another_test(name: str) -> None:
    calls = [one for one in OURS if one.words[0] == name and not runs_here(one.words)]
    if calls:
        assert name in ELSEWHERE, calls[0]
        test = ROOT / "tests" / ELSEWHERE[name][1]
        assert f'"{name}"' in test.read_text(), f"{test.name} does not run it"


@pytest.fixture(scope="module")
def checkout(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the checkout after the quickstart, with all that the pages name."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    tiny = TINY.format(root=ROOT).replace("name: tiny", "name: quickstart")
    (folder / "recipes" / "quickstart.yaml").write_text(tiny)
    for run in ("quickstart", "one", "card-24gb-1.5b", "mine"):
        shutil.copytree(finished, folder / "runs" / run)
    for one in ("mine", "Qwen-Qwen2.5-1.5B-Instruct", "base", "student"):
        (folder / "evaluations").mkdir(exist_ok=True)
        (folder / "evaluations" / one).symlink_to(finished)
    answers = [{"completion": "So \\boxed{4}", "reference": "4", "kind": "math"}]
    jsonl(folder / "answers.jsonl", answers)
    table = pa.table({"output": ["So \\boxed{4}"], "gold": ["4"]})
    pq.write_table(table, folder / "answers.parquet")
    said = "<think>\nTwo and two are four.\n</think>\n\n\\boxed{4}"
    jsonl(folder / "traces.jsonl", [{"prompt": "What is 2+2?", "response": said, "reference": "4"}])
    pq.write_table(
        pa.table({"question": ["What is 2+2?"], "text": [said]}), folder / "traces.parquet"
    )
    (folder / "data").mkdir()
    jsonl(folder / "data" / "rows.jsonl", [OPENR1])
    return folder


def on_the_miniature(words: tuple[str, ...], checkout: Path) -> list[str]:
    """A shown command with real names in place of those that stand for any."""
    trace = tracestill.load_run(checkout / "runs" / "quickstart").drops()["trace_id"][0]
    names = {
        "RECIPE": "recipes/quickstart.yaml", "RUN": "runs/quickstart", "3f9c2a": trace[:12],
        "STEPS": "form",
    }  # fmt: skip
    if words[0] == "plan":  # the miniature's model is traced, which takes seconds
        names["RECIPE"] = "recipes/card-24gb-1.5b.yaml"
    if words[0] == "filter":  # of a recipe whose run is there
        names["recipes/card-24gb-1.5b.yaml"] = "recipes/quickstart.yaml"
    return [names.get(word, word) for word in words]


@pytest.mark.parametrize("one", [one for one in OURS if runs_here(one.words)], ids=str)
def test_a_shown_command_runs(one: Shown, checkout: Path) -> None:
    if one.words[0] == "new":
        (checkout / one.words[1]).unlink(missing_ok=True)
    if one.words[0] == "push":
        shutil.rmtree(checkout / "shared", ignore_errors=True)
    done = run_tracestill(*on_the_miniature(one.words, checkout), cwd=checkout)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
