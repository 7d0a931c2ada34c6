"""`tracestill chat`: talk to the student of a run, and see it reason."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.generation import spare_threads
from finetune.multimodal import load_model
from tracestill.records.gguf import model_folder

_OPEN, _CLOSE = "<think>", "</think>"
Show = Callable[[str, bool], None]
"""Is given text as it comes, and whether it is reasoning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Student:
    """A student that is loaded, and how it is asked."""

    model: Any
    tokenizer: Any
    system: str | None
    temperature: float
    top_p: float
    top_k: int
    max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the student said: `text` is its whole turn, `answer` what follows its reasoning, None
    if it did not get that far. `ended`: by itself, not by the budget or the user.
    """

    text: str
    answer: str | None
    ended: bool


def open_student(
    run: Path,
    *,
    base: bool = False,
    system: str | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
) -> Student:
    """Load the student of a run, or with `base` the model that it was made of; what is not said is
    as in the run's evaluation.

    Raises:
        ValueError: `run` is no run, has no student yet, or the model has no chat template.

    """
    from tracestill.recipe.contract_keys import OWN
    from tracestill.recipe.loading import recipe_of_run

    recipe = recipe_of_run(run)
    tuned = recipe.finetune
    path = model_folder(tuned.student) if base else str((run / "finetune" / "merged").resolve())
    if not base and not Path(path, "config.json").is_file():
        raise ValueError(
            f"{run} has no student yet: `tracestill finetune RECIPE` makes it; --base talks to the "
            "model that it will be made of"
        )
    if Path(path).is_dir():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    options: dict[str, Any] = {
        "revision": tuned.revision if base else None,
        "trust_remote_code": tuned.trust_remote_code,
    }
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **options)
        on_gpu = torch.cuda.is_available()
        model = load_model(
            path,
            # Few CPUs multiply 16-bit numbers as fast as they do others.
            dtype="auto" if on_gpu else torch.float32,
            device_map="auto" if on_gpu else None,
            **options,
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} can't be loaded: {error}") from error
    spare_threads(model)
    if tokenizer.chat_template is None and tuned.template != OWN:
        tokenizer.chat_template = Path(tuned.template).read_text(encoding="utf-8")
    asked = recipe.evaluate
    longest = asked.max_tokens or getattr(recipe.generate, "max_tokens", None)
    assert longest is not None, "the recipe fills it in"
    return Student(
        model=model.eval(),
        tokenizer=tokenizer,
        system=tuned.system_prompt if system is None else system,
        temperature=asked.temperature if temperature is None else temperature,
        top_p=asked.top_p,
        top_k=asked.top_k,
        max_tokens=max_tokens or longest,
    )


def answer(student: Student, messages: list[dict[str, str]], show: Show) -> Reply:
    """The student's turn after `messages`. Ctrl-C ends it: what was said until then counts.

    Raises:
        ValueError: the conversation fills the student's context.

    """
    import torch

    prompt = student.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=False
    )
    ids = student.tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
    context = student.model.config.get_text_config().max_position_embeddings
    room = min(student.max_tokens, context - ids.shape[1])
    if room <= 0:
        raise ValueError(
            f"the conversation fills the student's context of {context:,} tokens; /new begins "
            "another"
        )
    sampling: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None}
    if student.temperature > 0:
        sampling = {
            "do_sample": True,
            "temperature": student.temperature,
            "top_p": student.top_p,
            "top_k": max(0, student.top_k),
        }
    ends = student.model.generation_config.eos_token_id
    opened = prompt.rstrip().endswith(_OPEN)
    turn = Turn(opened, show)
    stream = _Stream(student.tokenizer, set(ends if isinstance(ends, list) else [ends]), turn.add)
    try:
        with torch.inference_mode():
            student.model.generate(
                input_ids=ids.to(student.model.device),
                attention_mask=torch.ones_like(ids).to(student.model.device),
                max_new_tokens=room,
                streamer=stream,
                **sampling,
            )
    except KeyboardInterrupt:
        pass
    turn.end()
    text = f"{_OPEN}\n{turn.text}" if opened else turn.text
    return Reply(text=text, answer=turn.answer, ended=stream.ended)


class Turn:
    """Tells reasoning from answer while a turn's text comes in, in pieces of any size."""

    def __init__(self, opened: bool, show: Show) -> None:
        """`opened`: the prompt ends inside of the reasoning."""
        self._show = show
        self._part = "reasoning" if opened else "begin"
        self._waiting = ""  # may be the beginning of a tag
        self._answer: list[str] = []
        self.text = ""

    @property
    def answer(self) -> str | None:
        """What follows the reasoning; None while there is none."""
        return "".join(self._answer).strip() if self._part == "answer" else None

    def add(self, text: str) -> None:
        """The turn goes on."""
        self.text += text
        self._waiting += text
        if self._part == "begin":
            begun = self._waiting.lstrip()
            if begun.startswith(_OPEN):
                self._part, self._waiting = "reasoning", begun[len(_OPEN) :]
            elif not _OPEN.startswith(begun):
                self._part = "answer"
        if self._part == "reasoning":
            inside, closed, after = self._waiting.partition(_CLOSE)
            held = 0 if closed else _overlap(inside, _CLOSE)
            self._say(inside[: len(inside) - held], reasoning=True)
            self._waiting = after if closed else inside[len(inside) - held :]
            if closed:
                self._part = "answer"
        if self._part == "answer":
            self._say(self._waiting, reasoning=False)
            self._waiting = ""

    def end(self) -> None:
        """Nothing more comes: what might have become a tag is none."""
        if self._part == "begin":
            self._part = "answer"
        self._say(self._waiting, reasoning=self._part == "reasoning")
        self._waiting = ""

    def _say(self, text: str, *, reasoning: bool) -> None:
        if not reasoning:
            self._answer.append(text)
        if text:
            self._show(text, reasoning)


def _overlap(text: str, tag: str) -> int:
    """How many characters at the end of `text` may begin `tag`."""
    return next(n for n in range(len(tag) - 1, -1, -1) if text.endswith(tag[:n]))


class _Stream:
    """What transformers hands each new token to: it is passed on as text."""

    def __init__(self, tokenizer: Any, ends: set[int], add: Callable[[str], None]) -> None:
        self._tokenizer = tokenizer
        self._ends = ends
        self._add = add
        self._ids: list[int] = []
        self._from = self._to = 0
        self._prompt = True
        self.ended = False

    def put(self, value: Any) -> None:
        """The prompt's ids first, then those of each token."""
        if self._prompt:
            self._prompt = False
            return
        for token in value.flatten().tolist():
            if token in self._ends:
                self.ended = True
                return
            self._ids.append(token)
            # Some tokenizers write a token otherwise at the beginning of a text, so the last one
            # stays before it; a character of several tokens is not there before its last.
            before = self._tokenizer.decode(self._ids[self._from : self._to])
            text = self._tokenizer.decode(self._ids[self._from :])
            if len(text) > len(before) and not text.endswith("\N{REPLACEMENT CHARACTER}"):
                self._from, self._to = self._to, len(self._ids)
                self._add(text[len(before) :])

    def end(self) -> None:
        """Generation is over."""
