"""`tracestill chat` with the miniature: the teacher stands in for a student that has learnt."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, TINY, run_tracestill

from tracestill.explore.chat import Turn, answer, open_student
from tracestill.recipe.loading import dump_recipe, load_recipe
from tracestill.records.layout import RECIPE

QUESTION = "State the final answer to the following arithmetic problem: {} ="


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `chat` needs of a run."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "tiny.yaml").write_text(TINY.format(root=ROOT))
    (folder / RECIPE).write_text(dump_recipe(load_recipe(folder / "tiny.yaml")))
    shutil.copytree(ROOT / "miniature" / "teacher", folder / "finetune" / "merged")
    return folder


def piped(run: Path, text: str, *options: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "tracestill", "chat", str(run), "--temperature", "0", *options],
        input=text, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_piped_questions_have_an_answer_a_line(run: Path) -> None:
    questions = "\n".join(
        QUESTION.format(s) for s in ("3 + 4 + 5 + 1 + 2 + 6", "7 + 1 + 1 + 2 + 3 + 4")
    )
    first, second = piped(run, f"{questions}\n\n/quit\nnot asked\n")
    assert r"\boxed{21}" in first
    assert "think" not in first + second
    assert second


def test_an_answer_that_is_not_reached_is_told(run: Path) -> None:
    question = QUESTION.format("3 + 4 + 5 + 1 + 2 + 6")
    assert piped(run, question, "--max-tokens", "5") == ["(no answer within 5 tokens)"]


@pytest.mark.slow
def test_the_base_model_answers_too(run: Path) -> None:
    question = QUESTION.format("3 + 4 + 5 + 1 + 2 + 6")
    assert piped(run, question, "--base") != piped(run, question)


def test_past_reasoning_is_left_out_and_the_system_prompt_is_not(run: Path) -> None:
    student = open_student(run, system="Be brief.", temperature=0.0)
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": QUESTION.format("3 + 4 + 5 + 1 + 2 + 6")},
    ]
    assert student.system == "Be brief."
    shown: list[tuple[str, bool]] = []
    reply = answer(student, messages, lambda text, reasoning: shown.append((text, reasoning)))
    assert reply.ended
    reasoning = "".join(text for text, inside in shown if inside)
    told = "".join(text for text, inside in shown if not inside)
    assert reply.text == f"<think>\n{reasoning}</think>{told}"
    assert reply.answer == told.strip()
    assert len(shown) > 10, "tokens are shown as they come"
    messages += [{"role": "assistant", "content": reply.text}, {"role": "user", "content": "2"}]
    prompt = student.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=False
    )
    assert reasoning not in prompt
    assert prompt.startswith("<|user|>Be brief.")
    assert f"<|assistant|>{reply.answer}<|end|>" in prompt


def test_a_conversation_beyond_the_context_is_told(run: Path) -> None:
    student = open_student(run)
    long = [{"role": "user", "content": "1 + " * 2000}]
    with pytest.raises(ValueError, match="/new begins another"):
        answer(student, long, lambda text, reasoning: None)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("opened", "text", "reasoning", "told"),
    [
        (True, "a < b\n</think>\n\nyes", "a < b\n", "yes"),
        (False, "<think>\na</think>b", "\na", "b"),
        (False, "plain </think", "", "plain </think"),
        (True, "cut </thi", "cut </thi", None),
        (False, "<th", "", "<th"),
    ],
)
def test_reasoning_is_told_from_answer_in_pieces_of_any_size(
    size: int, opened: bool, text: str, reasoning: str, told: str | None
) -> None:
    shown: list[tuple[str, bool]] = []
    turn = Turn(opened, lambda piece, inside: shown.append((piece, inside)))
    for at in range(0, len(text), size):
        turn.add(text[at : at + size])
    turn.end()
    assert "".join(piece for piece, inside in shown if inside) == reasoning
    assert (turn.answer, turn.text) == (told, text)


class Terminal:
    """The command in a terminal."""

    def __init__(self, *arguments: str) -> None:
        self._fd, end = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tracestill", "chat", *arguments],
            stdin=end, stdout=end, stderr=end, start_new_session=True,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
        )  # fmt: skip
        os.close(end)
        self.seen = ""

    def until(self, text: str, after: int = 0) -> None:
        """Read until `text` was shown, behind the first `after` characters. A read may bring more
        than was waited for: what comes next may have been read by now.
        """
        deadline = time.monotonic() + 60
        while text not in self.seen[after:]:
            readable, _, _ = select.select([self._fd], [], [], max(0, deadline - time.monotonic()))
            assert readable, f"no {text!r} in {self.seen!r}"
            self.seen += os.read(self._fd, 4096).decode(errors="replace")

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())


@pytest.mark.slow
def test_in_a_terminal_reasoning_is_dim_and_ctrl_c_stops_an_answer(run: Path) -> None:
    terminal = Terminal(str(run), "--temperature", "0")
    terminal.until("> ")
    terminal.type(QUESTION.format("3 + 4 + 5 + 1 + 2 + 6") + "\n")
    terminal.until("boxed")
    assert "\x1b[2m" in terminal.seen
    terminal.until("> ", terminal.seen.index("boxed"))
    # The untrained end of a turn: nothing but Ctrl-C stops it.
    endless = Terminal(str(run), "--temperature", "5", "--max-tokens", "900")
    endless.until("> ")
    endless.type("1 + 1\n")
    endless.until("\x1b[2m", endless.seen.rindex(">"))
    os.kill(endless.process.pid, signal.SIGINT)
    endless.until("> ", len(endless.seen))
    for each in (terminal, endless):
        each.type("/quit\n")
        assert each.process.wait(20) == 0


@pytest.mark.parametrize("made", [True, False])
def test_without_a_student_there_is_one_clear_line(tmp_path: Path, run: Path, made: bool) -> None:
    if made:
        shutil.copy(run / RECIPE, tmp_path)
    done: Any = run_tracestill("chat", tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert ("has no student yet" if made else "is no run") in line
