"""What each stage of a run does: read its inputs' tables, call its package, write its own.

Here the packages meet: they do not know each other, nor the folders that they work for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.checkpoints import forget
from finetune.config import NEUTRAL
from generate.config import ImportTeacher, ServedTeacher
from tracestill.card import write_cards
from tracestill.importing import import_problems, import_traces
from tracestill.judging import open_judge
from tracestill.layout import INPUTS, Stage
from tracestill.models import model_content, section_content
from tracestill.recipe import Recipe
from tracestill.records import (
    Dispute,
    Doubt,
    Drop,
    Manifest,
    Problem,
    Trace,
    Verdict,
    digest,
    file_fingerprint,
    folder_fingerprint,
    read_manifest,
    read_table,
    write_manifest,
    write_table,
)
from tracestill.records.identity import FORMAT
from tracestill.records.models import LocalModel

if TYPE_CHECKING:
    from filter.sandbox import Sandbox
    from finetune.config import FinetuneSection
    from finetune.monitor import Judge
    from finetune.render import Example

Progress = Callable[[dict[str, Any]], None]


def fingerprint(stage: Stage, recipe: Recipe, run: Path) -> str:
    """A hash of a stage's settings and of its inputs as they lie on disk.

    Raises:
        ValueError: an input is not complete.

    """
    inputs = {}
    for name in INPUTS[stage]:
        manifest = read_manifest(run / name)
        if manifest is None:
            raise ValueError(f"{stage} needs the stage {name}, which is not complete in {run}")
        inputs[name] = [manifest.fingerprint, manifest.output]
    return digest(FORMAT, stage, inputs, _settings(stage, recipe))


def _settings(stage: Stage, recipe: Recipe) -> Any:
    """The part of a recipe that a stage's result depends on. Paths count by what lies there."""
    from filter.sandbox import read_sandbox
    from filter.verify import verifier_names
    from generate.reasoning import VERSION

    teacher = section_content(recipe.generate)
    verifiers = verifier_names(read_sandbox(recipe.filter.sandbox))
    match stage:
        case "problems":
            sources = [*recipe.problems.train, *recipe.problems.heldout]
            files = [file_fingerprint(Path(s.path)) for s in sources if s.source == "file"]
            imported: list[Any] = []
            if isinstance(recipe.generate, ImportTeacher):
                imported = [recipe.generate.model_dump(exclude={"path"}), teacher]
            return [recipe.problems.model_dump(), files, *imported]
        case "generate":
            settings = recipe.generate.model_dump(exclude={"model", "path"})
            return [settings, teacher, recipe.seed, VERSION]
        case "filter":
            judge = recipe.filter.judge
            asked = judge and [
                section_content(judge),
                file_fingerprint(Path(judge.template)),
            ]
            settings = recipe.filter.model_dump(exclude={"judge": {"model", "template"}})
            return [settings, asked, judge and recipe.seed, verifiers]
        case "finetune":
            student = model_content(recipe.finetune.student, recipe.finetune.revision)
            path = Path(recipe.finetune.template)
            contract = path.with_suffix(".yaml")
            template = [file_fingerprint(one) for one in (path, contract) if one.is_file()]
            left: dict[str, Any] = dict.fromkeys(NEUTRAL | {"student", "template"}, True)
            settings = recipe.finetune.model_dump(exclude=left | {"on_policy": {"teacher"}})
            further = recipe.finetune.on_policy
            taught = further and model_content(further.teacher, further.revision)
            return [settings, student, template, taught, recipe.seed]
        case "evaluate":
            student = model_content(recipe.finetune.student, recipe.finetune.revision)
            models = [student, teacher] if "teacher" in recipe.evaluate.models else [student]
            settings = recipe.evaluate.model_dump()
            read = [VERSION, verifiers, recipe.filter.sandbox]  # how answers are found and judged
            return [settings, _longest_answer(recipe), models, recipe.seed, read]
        case "report":
            return recipe.report.model_dump()


def _longest_answer(recipe: Recipe) -> int:
    if isinstance(recipe.generate, ImportTeacher):
        assert recipe.evaluate.max_tokens is not None, "the recipe fills it in"
        return recipe.evaluate.max_tokens
    return recipe.evaluate.max_tokens or recipe.generate.max_tokens


def execute(stage: Stage, recipe: Recipe, run: Path, progress: Progress) -> None:
    """Make one stage and declare it complete.

    Raises:
        ValueError: something that the user can mend, in one line.
        OSError: the disk.

    """
    begin = time.monotonic()
    made = fingerprint(stage, recipe, run)
    folder = run / stage
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").unlink(missing_ok=True)
    result = _EXECUTE[stage](recipe, run, progress)
    seconds = round(time.monotonic() - begin, 2)
    write_manifest(folder, Manifest(stage=stage, fingerprint=made, seconds=seconds, **result))
    if stage == "finetune":
        # Not sooner: a kill before the manifest would cost the training.
        forget(folder)
    if stage in ("finetune", "evaluate", "report"):
        judged = read_manifest(run / "evaluate")
        current = judged is not None and judged.fingerprint == fingerprint("evaluate", recipe, run)
        write_cards(recipe, run, evaluated=current)


def _problems(recipe: Recipe, run: Path, progress: Progress) -> dict[str, Any]:
    if isinstance(recipe.generate, ImportTeacher):
        return import_problems(recipe.generate, recipe, run, progress)
    from generate.problems import load_problems, stream_problems

    said = recipe.problems.instruction
    heldout, dropped = load_problems(recipe.problems.heldout, instruction=said)
    train = stream_problems(recipe.problems.train, dropped, exclude=heldout, instruction=said)
    folder = run / "problems"
    tables = {
        "train": write_table(folder, "train", Problem, train),
        "heldout": write_table(folder, "heldout", Problem, heldout),
    }
    distilled = sum(shard.rows for shard in tables["train"])
    if not distilled:
        raise ValueError("problems.train: no problem is left to distil from")
    kept = distilled + len(heldout)
    progress({"done": kept, "total": kept})
    return {
        "rows_in": kept + sum(dropped.values()),
        "rows_out": kept,
        "dropped": dict(dropped),
        "tables": tables,
        "details": {"train": distilled, "heldout": len(heldout)},
    }


def _generate(recipe: Recipe, run: Path, progress: Progress) -> dict[str, Any]:
    from tracestill.sampling import generate

    if isinstance(recipe.generate, ImportTeacher):
        return import_traces(recipe.generate, recipe, run, progress)
    return generate(recipe, run, progress)


def _filter(recipe: Recipe, run: Path, progress: Progress) -> dict[str, Any]:
    from filter.run import run as run_filters

    problems = {p.id: p for p in read_table(run / "problems", "train", Problem)}
    heldout = list(read_table(run / "problems", "heldout", Problem))
    traces = _judged(recipe, problems, read_table(run / "generate", "traces", Trace))
    folder = run / "filter"
    asked = recipe.filter.judge
    judge = open_judge(asked, recipe.seed, folder, progress) if asked else None
    known: dict[str, Verdict] = {}
    made = read_manifest(run / "generate")
    if made is not None and "verdicts" in made.tables:
        known = {v.trace_id: v for v in read_table(run / "generate", "verdicts", Verdict)}
    result = run_filters(traces, problems, heldout, recipe.filter, progress, judge, known)
    dropped: dict[str, int] = {}
    for drop in result.drops:
        dropped[drop.reason] = dropped.get(drop.reason, 0) + 1
    return {
        "rows_in": len(result.kept) + len(result.drops),
        "rows_out": len(result.kept),
        "dropped": dropped,
        "tables": {
            "verdicts": write_table(folder, "verdicts", Verdict, result.verdicts),
            "drops": write_table(folder, "drops", Drop, result.drops),
            "disputes": write_table(folder, "disputes", Dispute, result.disputes),
            "doubts": write_table(folder, "doubts", Doubt, result.doubts),
        },
    }


def _judged(
    recipe: Recipe, problems: Mapping[str, Problem], traces: Iterable[Trace]
) -> Iterable[Trace]:
    """The traces as they are judged: with the originals of what was masked, as references are."""
    from generate.redact import redactor, restored

    teacher = recipe.generate
    if not isinstance(teacher, ServedTeacher) or teacher.redact is None:
        return traces
    return restored(traces, problems, redactor(teacher.redact), teacher.system_prompt)


def _learnt(recipe: Recipe) -> Callable[[str], str]:
    """A prompt as the student learns from it: with placeholders where the traces have them."""
    from generate.redact import redactor

    teacher = recipe.generate
    if not isinstance(teacher, ServedTeacher) or teacher.redact is None or teacher.redact.restore:
        return lambda prompt: prompt
    mask, system = redactor(teacher.redact), teacher.system_prompt or ""
    return lambda prompt: mask(system, prompt).texts[1]


def kept_traces(run: Path) -> list[Trace]:
    """The traces that no filter dropped."""
    dropped = {drop.trace_id for drop in read_table(run / "filter", "drops", Drop)}
    traces = read_table(run / "generate", "traces", Trace)
    return [trace for trace in traces if trace.id not in dropped]


def kept_examples(recipe: Recipe, run: Path) -> list[Example]:
    """What the student learns from: the traces that no filter dropped, with their problems."""
    from finetune.render import Example
    from tracestill.evaluate.run import task_of

    problems = {p.id: p for p in read_table(run / "problems", "train", Problem)}
    learnt = _learnt(recipe)
    return [
        Example(
            trace_id=trace.id,
            prompt=learnt(problem.prompt),
            reasoning=trace.reasoning or "",
            answer=trace.answer or "",
            source=task_of(problem),
            language=problem.language,
        )
        for trace in kept_traces(run)
        for problem in (problems[trace.problem_id],)
    ]


def monitor_judge(recipe: Recipe, run: Path) -> Judge:
    """Judges what the student answers while it trains, as the evaluation does. It can be handed to
    other processes.
    """
    from filter.sandbox import read_sandbox

    problems = {p.id: p for p in read_table(run / "problems", "train", Problem)}
    asked = {t.id: problems[t.problem_id] for t in read_table(run / "generate", "traces", Trace)}
    return partial(_is_right, asked, read_sandbox(recipe.filter.sandbox))


def _is_right(
    asked: Mapping[str, Problem], sandbox: Sandbox, trace_id: str, completion: str
) -> bool | None:
    from filter.verify import verify
    from generate.reasoning import split_reasoning

    answer = split_reasoning(completion).answer
    outcome = verify(asked[trace_id], answer, trace_id, sandbox).outcome
    return None if outcome == "unverifiable" else outcome == "correct"


def _finetune(recipe: Recipe, run: Path, progress: Progress) -> dict[str, Any]:
    from finetune.train import train

    examples = kept_examples(recipe, run)
    details = train(
        examples,
        recipe.finetune,
        student=recipe.finetune.student,
        template=Path(recipe.finetune.template),
        folder=run / "finetune",
        seed=recipe.seed,
        progress=progress,
        name=recipe.name,
        judge=monitor_judge(recipe, run) if recipe.finetune.monitor is not None else None,
    )
    dropped = details.pop("dropped")
    details["output"] = folder_fingerprint(run / "finetune" / "merged")
    return {
        "rows_in": len(examples),
        "rows_out": len(examples) - sum(dropped.values()),
        "dropped": dropped,
        "details": details,
    }


def _evaluate(recipe: Recipe, run: Path, progress: Progress) -> dict[str, Any]:
    from filter.sandbox import read_sandbox
    from finetune.contract import read_contract
    from tracestill.evaluate.run import Judged, evaluate

    teacher, student = recipe.generate, recipe.finetune
    merged = str((run / "finetune" / "merged").resolve())
    longest = teacher.max_model_len if isinstance(teacher, LocalModel) else None
    remote = {"trust_remote_code": True} if student.trust_remote_code else {}
    before = LocalModel(
        model=student.student,
        revision=student.revision,
        max_model_len=longest,
        engine_args=remote,
    )
    after = LocalModel(model=merged, max_model_len=longest, engine_args=remote)
    template = Path(student.template)
    taught = template.read_text(encoding="utf-8")
    languages = bool(read_contract(template, student).languages)
    judged = {
        "student_before": Judged(
            name="student_before",
            model=before,
            system_prompt=student.system_prompt,
            chat_template=None if _has_template(student) else taught,
            languages=languages,
        ),
        # It is saved with its template; but a tokenizer that comes as Python can set its own.
        "student_after": Judged(
            name="student_after",
            model=after,
            system_prompt=student.system_prompt,
            chat_template=taught,
            languages=languages,
        ),
    }
    if not isinstance(teacher, ImportTeacher):
        judged["teacher"] = Judged(
            name="teacher", model=teacher, system_prompt=teacher.system_prompt
        )
    return evaluate(
        [judged[name] for name in recipe.evaluate.models],
        list(read_table(run / "problems", "heldout", Problem)),
        recipe.evaluate,
        max_tokens=_longest_answer(recipe),
        seed=recipe.seed,
        sandbox=read_sandbox(recipe.filter.sandbox),
        folder=run / "evaluate",
        progress=progress,
    )


def _has_template(student: FinetuneSection) -> bool:
    """Whether a student can be asked before it is trained: many base models have no template."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        student.student,
        revision=student.revision,
        trust_remote_code=student.trust_remote_code,
        local_files_only=Path(student.student).is_dir(),
    )
    return tokenizer.chat_template is not None


def _report(recipe: Recipe, run: Path, progress: Progress) -> dict[str, Any]:
    from tracestill.report import build

    build(run)
    progress({"done": 1, "total": 1})
    return {"rows_in": 0, "rows_out": 0}


_EXECUTE: dict[Stage, Callable[[Recipe, Path, Progress], dict[str, Any]]] = {
    "problems": _problems,
    "generate": _generate,
    "filter": _filter,
    "finetune": _finetune,
    "evaluate": _evaluate,
    "report": _report,
}
