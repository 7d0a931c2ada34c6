"""Draft a recipe from five answers: GPU, student, problems, teacher, budget."""

from __future__ import annotations

import re
import typing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from finetune.planner import TrainingPlan, devices, plan, read_shape
from finetune.planner.known_shapes import known_config
from tracestill.planning.training import student_config
from tracestill.recipe.finetune import FinetuneSection
from tracestill.recipe.generate import LayoutName
from tracestill.recipe.hosts import host_of, is_loopback

LAYOUTS = tuple(name for name in typing.get_args(LayoutName) if name != "table")
_MATH = "Please reason step by step, and put your final answer within \\boxed{}."
_TABLES = (".jsonl", ".json", ".csv", ".parquet")
# The longest samples, from which the first that fits the GPU is taken; 4,096 where none does.
_LENGTHS = (16_384, 8_192, 4_096)
_STUDENTS = ("Qwen/Qwen2.5-32B", "Qwen/Qwen2.5-14B", "Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-1.5B")
_TEMPLATES = {"qwen2.5": "chatml-think", "llama-3": "llama-3", "teuken": "teuken"}
# Students whose context is shorter than the samples that fit, by what is in their names.
_CONTEXTS = {"qwen2.5-math": 4_096, "teuken": 4_096}
_SCALES = {"": 1, "k": 1_000, "m": 1_000_000, "b": 1_000_000_000}
_AMOUNT = re.compile(r"([\d.,]+) ?([kmb]?) ?(tokens|hours)", re.IGNORECASE)
_GSM8K = {"source": "hub", "dataset": "openai/gsm8k", "config": "main",
          "columns": {"prompt": "question", "reference": "answer"}}  # fmt: skip
_OPENR1 = {"source": "hub", "dataset": "open-r1/OpenR1-Math-220k", "config": "default",
           "split": "train", "columns": {"prompt": "problem", "reference": "answer"}}  # fmt: skip
_MATH_500 = {"source": "hub", "dataset": "HuggingFaceH4/MATH-500", "split": "test",
             "columns": {"prompt": "problem", "reference": "answer"}}  # fmt: skip


def checked_gpu(answer: str) -> str:
    """The GPU's name, or `none`.

    Raises:
        ValueError: the GPU is not known.

    """
    if answer.lower() == "none":
        return "none"
    return devices.named(answer).name if not answer[:1].isdigit() else answer


def largest_student(gpu: str) -> str:
    """The largest Qwen2.5 that trains on the GPU, with an adapter and rows of 8,192 tokens."""
    if gpu == "none":
        return "HuggingFaceTB/SmolLM2-135M-Instruct"
    for name in _STUDENTS:
        settings = FinetuneSection(student=name, max_length=8_192)
        config = known_config(name)
        if config is not None and _planned(settings, config, gpu).fits:
            return name
    return "Qwen/Qwen2.5-0.5B"


def _planned(settings: FinetuneSection, config: dict[str, Any], gpu: str) -> TrainingPlan:
    return plan(settings, read_shape(config), devices.named(gpu))


def finetune_of(student: str, gpu: str) -> dict[str, Any]:
    """The section `finetune` for a student on a GPU: as long samples as fit, of the sizes that are
    known; 512 tokens on a CPU.
    """
    found = (name for sign, name in _TEMPLATES.items() if sign in student.lower())
    section: dict[str, Any] = {"student": student, "template": next(found, "own")}
    if section["template"] == "teuken":
        section["trust_remote_code"] = True
    if gpu == "none":
        return {**section, "max_length": 512, "batch_size": 2, "epochs": 1}
    try:
        config, _ = student_config(_absolute(student), None)
        read_shape(config)
    except ValueError:  # its sizes are not known here: `tracestill plan` says what is missing
        return {**section, "quantize": "auto", "max_length": _LENGTHS[-1], "epochs": 3}
    context = config.get("max_position_embeddings") or _context(student)
    for length in _LENGTHS:
        settings = FinetuneSection(student=student, quantize="auto", max_length=length)
        if length <= context and _planned(settings, config, gpu).fits:
            break
    length = min(length, context)
    return {**section, "quantize": "auto", "max_length": length, "epochs": 3}


def _context(student: str) -> int:
    name = student.lower()
    if "rope" in name:  # a copy whose context was made longer
        return max(_LENGTHS)
    return min((size for sign, size in _CONTEXTS.items() if sign in name), default=max(_LENGTHS))


def _absolute(model: str) -> str:
    local = model.startswith((".", "/", "~"))
    return str(Path(model).expanduser().resolve()) if local else model


def problems_of(answer: str, imported: bool) -> dict[str, Any]:
    """The section `problems`; of imported traces only what is held out.

    Raises:
        ValueError: the answer names no problems that are known.

    """
    train, heldout, instruction = _sources(answer)
    section: dict[str, Any] = {"instruction": instruction} if instruction else {}
    if not imported:
        section["train"] = train
    return {**section, "heldout": heldout}


def _sources(answer: str) -> tuple[list[Any], list[Any], str | None]:
    """The sources to train on and to judge by, and what is put below every prompt."""
    if answer == "gsm8k":
        test = {**_GSM8K, "split": "test", "size": 300}
        return [{**_GSM8K, "split": "train", "size": 2000}], [test], _MATH
    if answer == "openr1-math":
        return [{**_OPENR1, "size": 2000}], [_MATH_500], _MATH
    learnt, kept = {"of": 10, "keep": list(range(1, 10))}, {"of": 10, "keep": [0]}
    if answer.startswith("gym:"):
        families = [name.strip() for name in answer.removeprefix("gym:").split(",")]
        gym = [{"source": "reasoning_gym", "family": name} for name in families]
        return (
            [{**one, "size": 500, "seed": 1, "buckets": learnt} for one in gym],
            [{**one, "size": 60, "seed": 2, "buckets": kept} for one in gym],
            None,
        )
    if answer.endswith(_TABLES):
        if not Path(answer).expanduser().is_file():
            raise ValueError(f"problems: there is no file {answer}")
        file = {"source": "file", "path": str(Path(answer).expanduser().resolve())}
        return [{**file, "buckets": learnt}], [{**file, "buckets": kept}], None
    raise ValueError(
        f"problems: {answer!r} is none of gsm8k, openr1-math, gym:FAMILY,FAMILY, or a file that "
        f"ends in {', '.join(_TABLES)} and has the columns prompt and reference"
    )


def teacher_of(answer: str) -> tuple[dict[str, Any], list[str]]:
    """The section `generate`, and the hosts that prompts go to.

    Raises:
        ValueError: the answer names no teacher.

    """
    if answer.startswith("import:"):
        layout = answer.removeprefix("import:")
        if layout not in LAYOUTS:
            raise ValueError(f"teacher: {layout!r} is no data set known: {', '.join(LAYOUTS)}")
        return {"engine": "import", "layout": layout}, []
    model, at, url = answer.partition("@")
    if not at:
        local = model.startswith((".", "/", "~"))
        if not local and model.count("/") != 1:
            raise ValueError(
                f"teacher: {answer!r} is no hub id (owner/name), no folder (./…), no MODEL@URL of "
                "a server, and no import:DATASET"
            )
        return {"model": _absolute(model), **_sampled()}, []
    if not model or urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"teacher: {answer!r}: write MODEL@http://127.0.0.1:8000/v1")
    host = host_of(url)
    served = {"engine": "openai", "model": model, "base_urls": [url], **_sampled()}
    if is_loopback(host):
        return served, []
    return {**served, "api_key_env": "TEACHER_API_KEY"}, [host]


def _sampled() -> dict[str, Any]:
    return {"samples": {"max": 4, "until_correct": 1}, "temperature": 0.6, "top_p": 0.95}


def budget_of(answer: str) -> dict[str, Any]:
    """The key `generate.budget`; empty for `none`.

    Raises:
        ValueError: it is no amount of tokens or hours.

    """
    if answer.lower() == "none":
        return {}
    found = _AMOUNT.fullmatch(answer.strip())
    try:
        amount = float(found[1].replace(",", "")) * _SCALES[found[2].lower()] if found else 0.0
    except ValueError:
        amount = 0.0
    if found is None or amount <= 0 or (found[3].lower() == "tokens" and amount < 1):
        raise ValueError(
            f"budget: {answer!r}: write none, or such as '20M tokens' or '12 hours'; one in money "
            "goes by prices, which you add to the recipe with it (docs/teachers.md)"
        )
    unit = found[3].lower()
    return {unit: int(amount) if unit == "tokens" else amount, "then": "go_on"}


def _room(teacher: str, room: int) -> int:
    """As much of `room` as a teacher's context has, where its config.json is on this machine."""
    try:
        config, _ = student_config(teacher, None)
    except ValueError:  # vLLM says it, where it is loaded
        return room
    return min(room, config.get("max_position_embeddings") or room)


def checked_student(answer: str) -> str:
    """A hub id or a folder.

    Raises:
        ValueError: it is neither.

    """
    if not answer.startswith((".", "/", "~")) and answer.count("/") != 1:
        raise ValueError(f"student: {answer!r} is no hub id (owner/name) and no folder (./…)")
    return answer


def draft(gpu: str, student: str, problems: str, teacher: str, budget: str) -> dict[str, Any]:
    """A recipe's keys, from the five answers.

    Raises:
        ValueError: an answer is none that is known, with what to answer.

    """
    gpu = checked_gpu(gpu)
    generate, hosts = teacher_of(teacher)
    imported = generate.get("engine") == "import"
    limits = budget_of(budget)
    if imported and limits:
        raise ValueError("budget: imported traces cost nothing; answer none")
    finetune = finetune_of(_absolute(checked_student(student)), gpu)
    values: dict[str, Any] = {"problems": problems_of(problems, imported), "generate": generate}
    if hosts:
        values["egress"] = {"allow": hosts}
    if not imported:
        room = finetune["max_length"]
        if "engine" not in generate:
            room = _room(generate["model"], room)
            generate["max_model_len"] = room
        # A quarter is for prompts.
        generate |= {"max_tokens": room * 3 // 4} | ({"budget": limits} if limits else {})
    else:
        # Most data sets have no references: what can't be judged passes, what is wrong goes.
        values["filter"] = {"keep": ["correct", "unverifiable"]}
    return {**values, "finetune": finetune}
