"""The model cards of a run: what the student is, how it was made, how it is run, how good it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.older import OLDEST
from tracestill.explore.load import Run, load_run
from tracestill.recipe.generate import ImportTeacher
from tracestill.recipe.problems import FileSource, HubSource, ProblemSource
from tracestill.recipe.schema import Recipe
from tracestill.records.content import folder_fingerprint, model_name
from tracestill.records.figures import ExportFigures, GgufFigures, GgufFile, TrainingFigures
from tracestill.records.layout import GGUF_FIGURES

if TYPE_CHECKING:
    from jinja2 import Template

_TAGS = {"adapter": ["lora"], "gguf": ["gguf"]}
_NAMES = {"student_before": "before", "student_after": "**this student**", "teacher": "teacher"}


def write_cards(recipe: Recipe, folder: Path, *, evaluated: bool) -> None:
    """Write `README.md` beside the weights of the run in `folder`: of `finetune/merged`, and of
    `finetune/adapter` where there is one. `evaluated` says whether the evaluation that lies in the
    run is this student's.

    A card is no part of a model's fingerprint: it is written again when more is known.
    """
    from tracestill.records import write_atomic

    run = load_run(folder)
    template = card_template("card.md.jinja")
    for part in ("merged", "adapter", *(["gguf"] if _gguf(run) else [])):
        if (folder / "finetune" / part).is_dir():
            text = template.render(**_content(recipe, run, evaluated, part))
            write_atomic(folder / "finetune" / part / "README.md", text.encode())


def card_template(name: str) -> Template:
    """A template of a card, of those that lie here."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = lambda value: f"{value:.1%}"
    environment.filters["thousands"] = lambda value: f"{value:,}"
    return environment.get_template(name)


def made_by(run: Run) -> str:
    """The revision of tracestill that made a run."""
    git = run.provenance.get("git") or {}
    return (git.get("revision") or "unknown") + (" (changed)" if git.get("dirty") else "")


def _content(recipe: Recipe, run: Run, evaluated: bool, part: str) -> dict[str, Any]:
    """Everything that a card shows."""
    adapter = part == "adapter"
    tuned = run.training()
    results = run.results() if evaluated else None
    evaluate, student = recipe.evaluate, recipe.finetune
    longest = evaluate.max_tokens or getattr(recipe.generate, "max_tokens", None)
    gguf, folder = _gguf(run), run.path / "finetune" / "merged"
    return {
        "metadata": _metadata(recipe, part),
        "part": part,
        "gguf": gguf,
        "measured": gguf and next(filter(None, (one.pass_at_1 for one in gguf.files)), None),
        "lost": lost,
        "server": gguf and server_command(gguf.files[0].file, recipe),
        "name": recipe.name,
        "description": recipe.description,
        "adapter": adapter,
        "sees": "text_config" in json.loads((folder / "config.json").read_text()),
        "student": model_name(student.student),
        "base": None if student.student.startswith("/") else student.student,
        "teacher": teacher_name(recipe),
        "system": student.system_prompt,
        "names": _NAMES,
        "results": results,
        "tasks": list(next(iter(results.values())).by_task) if results else [],
        "evaluation": f"temperature {evaluate.temperature}, top-p {evaluate.top_p}, at most "
        f"{longest:,} tokens an answer",
        "temperature": evaluate.temperature or 1.0,
        "top_p": evaluate.top_p,
        "max_tokens": longest,
        "findings": [*tuned.export.findings, *tuned.hints],
        "lora_rank": tuned.export.max_lora_rank,
        "training": tuned.export,
        "oldest": OLDEST,
        "made": _made(recipe, run, tuned),
        "settings": _settings(recipe),
        "revision": made_by(run),
    }


def _gguf(run: Run) -> GgufFigures | None:
    """The figures of the GGUF files, if they were made of the student that is there now."""
    path = run.path / "finetune" / "gguf" / GGUF_FIGURES
    if not path.is_file():
        return None
    import msgspec

    figures = msgspec.json.decode(path.read_bytes(), type=GgufFigures)
    return figures if figures.merged == folder_fingerprint(run.path / "finetune/merged") else None


def llama_sampling(recipe: Recipe) -> dict[str, float]:
    """How the student is sampled in the evaluation, by Ollama's names, with what Ollama and
    llama-server would add to it unasked left off, and the context that it was trained for.
    """
    section = recipe.evaluate
    return {
        "temperature": section.temperature,
        "top_p": section.top_p,
        "top_k": max(0, section.top_k),  # 0: no limit
        "min_p": 0,
        "repeat_penalty": 1,
        "num_ctx": recipe.finetune.max_length,
    }


def server_command(file: str, recipe: Recipe) -> str:
    """A command that serves a GGUF file of the student, sampled as in the evaluation."""
    values = llama_sampling(recipe)
    return (
        f"llama-server -m {file} --jinja --temp {values['temperature']:g} "
        f"--top-p {values['top_p']:g} --top-k {values['top_k']} --min-p 0"
    )


def lost(file: GgufFile) -> tuple[str, str]:
    """A file's pass@1, and by how much it differs from the student's, in percentage points with the
    95% interval; empty where that was not measured.
    """
    if (made := file.pass_at_1) is None:
        return "", ""
    low, high = (f"{100 * end:+.1f}" for end in made.ci95)
    return f"{made.answers.pass_at_1:.1%}", f"{100 * made.difference:+.1f} ({low} to {high})"


def _metadata(recipe: Recipe, part: str) -> str:
    """The card's head, as the hub reads it. No licence: the student's and the teacher's decide."""
    import yaml

    student = recipe.finetune.student
    values: dict[str, Any] = {}
    if not student.startswith("/"):
        values["base_model"] = student
        relations = {"adapter": "adapter", "gguf": "quantized"}
        values["base_model_relation"] = relations.get(part, "finetune")
    libraries = {"adapter": "peft", "gguf": "gguf"}
    values["library_name"] = libraries.get(part, "transformers")
    values["pipeline_tag"] = "text-generation"
    values["tags"] = ["reasoning", "distillation", "tracestill", *_TAGS.get(part, [])]
    return yaml.safe_dump(values, sort_keys=False)


def teacher_name(recipe: Recipe) -> str:
    """A recipe's teacher, for people."""
    teacher = recipe.generate
    if isinstance(teacher, ImportTeacher):
        return teacher.teacher or f"the teacher of {teacher.dataset or teacher.layout}"
    return model_name(teacher.model)


def _made(recipe: Recipe, run: Run, tuned: TrainingFigures) -> list[tuple[str, str]]:
    """What went in and what was done, in the order in which it was done."""
    rows = []
    if sources := recipe.problems.train:
        rows.append(("problems", ", ".join(dict.fromkeys(map(_source, sources)))))
    teacher = recipe.generate
    if isinstance(teacher, ImportTeacher):
        rows.append(("traces", f"imported from {teacher.dataset or teacher.layout}"))
    else:
        rows.append(
            (
                "teacher",
                f"{teacher_name(recipe)}, temperature {teacher.temperature}, "
                f"top-p {teacher.top_p}, at most {teacher.max_tokens:,} tokens",
            )
        )
    filtered = run.manifest("filter")
    assert filtered is not None, "the student was trained on what the filter kept"
    dropped = ", ".join(
        f"{count:,} {reason.replace('_', ' ')}" for reason, count in filtered.dropped.items()
    )
    kept = f"{filtered.rows_out:,} of {filtered.rows_in:,}"
    rows.append(("traces kept", f"{kept}; dropped: {dropped or 'none'}"))
    rows.append(("learnt from", _learnt(tuned)))
    rows.append(("method", _method(recipe, tuned)))
    rows.append(("weights", _weights(tuned.export)))
    provenance = run.provenance
    if hardware := provenance.get("hardware"):
        device = ", ".join(hardware["gpus"]) or hardware["cpu"]
        rows.append(("training", f"{tuned.train_seconds:,.0f} s on {device}"))
    if versions := provenance.get("versions"):
        rows.append(("versions", ", ".join(f"{name} {v}" for name, v in versions.items())))
    rows.append(("seed", str(recipe.seed)))
    return rows


def _source(source: ProblemSource) -> str:
    if isinstance(source, FileSource):
        return f"a file of {source.kind} problems"
    if isinstance(source, HubSource):
        return f"{source.dataset}, {source.split}"
    return f"{source.family} (reasoning-gym)"


def _learnt(tuned: TrainingFigures) -> str:
    text = (
        f"{tuned.samples:,} traces, {tuned.trained_tokens:,} tokens of reasoning and answer, "
        f"in {tuned.steps:,} steps ({tuned.epochs:g} epochs); loss {tuned.loss:.4f} nats "
        "a token at the last step"
    )
    if tuned.heldout_samples:
        text += f"; {tuned.heldout_samples:,} more held out"
    return text


def _method(recipe: Recipe, tuned: TrainingFigures) -> str:
    if recipe.finetune.method == "full":
        return f"all {tuned.export.parameters:,} weights"
    lora = recipe.finetune.lora
    kind = (
        "QLoRA (nf4)" if tuned.export.loss_original is not None else "DoRA" if lora.dora else "LoRA"
    )
    return (
        f"{kind} of rank {tuned.rank or lora.rank}: {tuned.trainable_parameters:,} weights beside "
        f"{tuned.export.parameters:,}"
    )


def _weights(made: ExportFigures) -> str:
    """What lies in `merged/`, and how near it is to what was trained."""
    text = (
        f"{made.dtype}; their logits differ from the trained ones by "
        f"{made.logit_difference:.2%} of the logits' spread"
    )
    if made.loss_original is not None:
        text += (
            ". They are the 4-bit weights that were trained on, dequantised, with the adapter "
            f"merged into them, and have a loss of {made.loss_merged:.4f} nats a token; with "
            f"the student's own weights instead it were {made.loss_original:.4f}, and the "
            f"logits {made.logit_difference_original:.2%} off"
        )
    return text


def _settings(recipe: Recipe) -> str:
    """The finetune section, without paths of this machine and what is as by default."""
    import yaml

    values = recipe.finetune.model_dump(
        exclude={"student": True, "template": True, "on_policy": {"teacher"}}, exclude_defaults=True
    )
    return yaml.safe_dump(values, sort_keys=False)
