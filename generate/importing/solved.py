"""Formats whose rows hold a problem with its reference, and one solution or several."""

from __future__ import annotations

import re

from generate.importing.row_format import (
    ParsedRow,
    Row,
    RowFormat,
    RowResponse,
    facts,
    optional,
    text,
)
from tracestill.records import Finish, Kind

_NO_ANSWER = ("", "n/a", "proof", "notfound", "none")
_SHORT = 60  # characters; the longest answers of competitions
_FINAL = re.compile(r"^[ \t*#]*Final Answer\b", re.IGNORECASE | re.MULTILINE)


def _judged(answer: str, solution: str = "", multiple_choice: bool = False) -> tuple[Kind, str]:
    """How an answer is judged and by which reference: a proof's only by its solution, by people
    or a judge.
    """
    if answer.lower() in _NO_ANSWER:
        return "open", solution
    if multiple_choice and re.fullmatch(r"[A-J]", answer):
        return "choice", answer
    return "math", answer


def _kind_of(solution: str) -> Kind:
    """How a reference is judged that may be a whole solution: only one that is short, or that
    boxes its answer, says which of its numbers counts.
    """
    short = len(solution) <= _SHORT and "\n" not in solution
    return "math" if solution and (short or "\\boxed" in solution) else "open"


def _openr1_math(row: Row) -> ParsedRow:
    said = row.get("generations")
    if not isinstance(said, list) or not said:
        raise ValueError("no generations")
    complete = row.get("is_reasoning_complete") or []
    reasons = row.get("finish_reasons") or []
    responses = []
    for number, raw in enumerate(said):
        if not isinstance(raw, str) or not raw.strip():
            error = f"generation {number} has no text"
            responses.append(RowResponse(raw="", finish="error", error=error))
            continue
        ended = number >= len(complete) or complete[number] is not False
        reason = reasons[number] if number < len(reasons) else None
        finish: Finish = "length" if not ended or reason == "length" else "stop"
        responses.append(RowResponse(raw=raw, finish=finish))
    choice = row.get("question_type") == "MCQ"
    kind, reference = _judged(optional(row, "answer"), optional(row, "solution"), choice)
    return ParsedRow(
        prompt=text(row, "problem"),
        reference=reference,
        kind=kind,
        source=optional(row, "source"),
        responses=tuple(responses),
        facts=facts(row, "uuid", "problem_type", "question_type"),
    )


def _openthoughts_metadata(row: Row) -> ParsedRow:
    tests, domain = optional(row, "test_cases"), optional(row, "domain")
    reference = optional(row, "ground_truth_solution")
    kind: Kind = "open"
    if domain == "code" and tests:
        kind, reference = "code", tests
    elif domain == "math":
        kind = _kind_of(reference)
    found = RowResponse(
        raw=text(row, "deepseek_solution"), raw_reasoning=text(row, "deepseek_reasoning")
    )
    return ParsedRow(
        prompt=text(row, "problem"),
        reference=reference,
        kind=kind,
        source=optional(row, "source"),
        responses=(found,),
        facts=facts(row, "domain", "starter_code"),
    )


def _s1k(row: Row) -> ParsedRow:
    found = RowResponse(
        raw=optional(row, "deepseek_attempt"),
        raw_reasoning=text(row, "deepseek_thinking_trajectory"),
    )
    solution = optional(row, "solution")
    kind = _kind_of(solution) if row.get("cot_type") == "math" else "open"
    return ParsedRow(
        prompt=text(row, "question"),
        reference=solution,
        kind=kind,
        source=optional(row, "source_type"),
        responses=(found,),
        facts=facts(row, "cot_type"),
    )


def _limo(row: Row) -> ParsedRow:
    # The chains have no tags: they reason up to a heading under which the answer stands.
    chain = text(row, "solution")
    headings = list(_FINAL.finditer(chain))
    cut = headings[-1].start() if headings else None
    reasoning, answer = (None, chain) if cut is None else (chain[:cut], chain[cut:])
    kind, reference = _judged(optional(row, "answer"))
    return ParsedRow(
        prompt=text(row, "question"),
        reference=reference,
        kind=kind,
        responses=(RowResponse(raw=answer, raw_reasoning=reasoning),),
    )


def _open_math_reasoning(row: Row) -> ParsedRow:
    mode = optional(row, "inference_mode")
    if mode == "genselect":
        raise ValueError(
            "it chooses among solutions (inference_mode genselect), and solves nothing"
        )
    raw = text(row, "generated_solution")
    if raw == "n/a":
        raise ValueError("generated_solution is n/a: the row is a problem without a solution")
    kind, reference = _judged(optional(row, "expected_answer"))
    teacher = optional(row, "generation_model")
    return ParsedRow(
        prompt=text(row, "problem"),
        reference=reference,
        kind=kind,
        source=optional(row, "problem_source"),
        responses=(RowResponse(raw=raw, teacher=teacher or None),),
        facts=facts(row, "problem_type", "pass_rate_72b_tir"),
    )


FORMATS = {
    "openr1-math-220k": RowFormat(
        dataset="open-r1/OpenR1-Math-220k",
        config="default",
        teacher="deepseek-ai/DeepSeek-R1",
        needs=("problem", "answer", "generations"),
        uses=(
            "solution", "source", "uuid", "problem_type", "question_type", "is_reasoning_complete",
            "finish_reasons",
        ),
        read=_openr1_math,
    ),
    "openthoughts-114k-metadata": RowFormat(
        dataset="open-thoughts/OpenThoughts-114k",
        config="metadata",
        teacher="deepseek-ai/DeepSeek-R1",
        needs=("problem", "deepseek_reasoning", "deepseek_solution"),
        uses=("ground_truth_solution", "domain", "source", "test_cases", "starter_code"),
        read=_openthoughts_metadata,
    ),
    "s1k-1.1": RowFormat(
        dataset="simplescaling/s1K-1.1",
        teacher="deepseek-ai/DeepSeek-R1",
        needs=("question", "deepseek_thinking_trajectory", "deepseek_attempt"),
        uses=("solution", "cot_type", "source_type"),
        read=_s1k,
    ),
    "limo": RowFormat(
        dataset="GAIR/LIMO",
        teacher="GAIR/LIMO",  # chains of several models, and which wrote which is not said
        needs=("question", "solution", "answer"),
        read=_limo,
    ),
    "openmathreasoning": RowFormat(
        dataset="nvidia/OpenMathReasoning",
        split="cot",
        teacher="nvidia/OpenMathReasoning",  # rows name their own
        needs=("problem", "generated_solution", "expected_answer"),
        uses=(
            "problem_type", "problem_source", "generation_model", "pass_rate_72b_tir",
            "inference_mode",
        ),
        read=_open_math_reasoning,
    ),
}  # fmt: skip
