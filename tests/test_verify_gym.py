"""reasoning-gym's scorers, family by family, as problems come to them: from a Parquet table."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import json
import re
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from filter.verify import Answer, verify, verify_many
from filter.verify.doubts import doubtful
from filter.verify.gym import own_answer, reasoning_gym_many
from filter.verify.gym.guard import EVALUATING, may_see_answer
from filter.verify.gym.scoring import open_scorer
from generate.problems import load_problems
from tracestill.recipe.problems import GymSource
from tracestill.records import Problem, from_row, write_table

# Their entries hold no answer and no example of one: many plans are right.
WITHOUT_ANSWER = {"boxnet", "rush_hour"}
COMPOSITE = {
    "datasets": [
        {"name": "chain_sum", "weight": 1.0, "config": {"min_terms": 3, "max_terms": 3}},
        {"name": "arc_1d", "weight": 1.0, "config": {}},
    ]
}
# What is right for one problem may be right for another.
ANSWERS_IN_COMMON = {"n_queens", "propositional_logic"}
SIZE = 4
SEED = 5


@cache
def families() -> list[str]:
    from reasoning_gym.factory import DATASETS

    return sorted(DATASETS)


@cache
def problems(family: str) -> list[Problem]:
    config = COMPOSITE if family == "composite" else {}
    source = GymSource(source="reasoning_gym", family=family, size=SIZE, seed=SEED, config=config)
    return load_problems([source])[0]


def boxed(problem: Problem, text: str | None) -> Answer:
    answer = None if text is None else f"So it is\n\n$\\boxed{{{text}}}$."
    return Answer(problem=problem, text=answer, trace_id=problem.id)


@pytest.mark.parametrize("family", families())
def test_a_familys_own_answers_are_correct_and_others_are_not(family: str, tmp_path: Path) -> None:
    (shard,) = write_table(tmp_path, "problems", Problem, problems(family))
    rows = pq.read_table(tmp_path / shard.file).to_pylist()
    stored = [from_row(Problem, row) for row in rows]
    own = [own_answer(problem) for problem in stored]
    answered = [(p, text) for p, text in zip(stored, own, strict=True) if text is not None]
    assert len(answered) == (0 if family in WITHOUT_ANSWER else SIZE)
    right = verify_many([boxed(problem, text) for problem, text in answered])
    # A tenth of intermediate_integration's answers are integrals that sympy did not find.
    unsolved = [problem.id for problem, text in answered if "Integral(" in text]
    assert [v.trace_id for v in right if v.outcome != "correct"] == unsolved
    assert [doubt.problem_id for doubt in doubtful(stored)] == unsolved
    texts = ["nonsense", "", "nan", *([] if family in ANSWERS_IN_COMMON else own)]
    wrong = verify_many(
        [
            boxed(problem, text)
            for problem, text in itertools.product(stored, texts)
            if text != own_answer(problem)
        ]
    )
    assert {verdict.outcome for verdict in wrong} == {"incorrect"}


def from_meta(family: str, answer: str | None, **metadata: Any) -> Problem:
    """A problem of which the scorer looks at nothing but this."""
    entry = {"question": "?", "answer": answer, "metadata": metadata}
    return Problem(
        id=family, prompt="?", reference=str(answer), kind="reasoning_gym",
        source=f"reasoning_gym/{family}", meta={"family": family, "config": {}, "entry": entry},
    )  # fmt: skip


INTEGRAL = from_meta("simple_integration", "x**3/3 + C", variable="x", integrand="x**2")
SUM = from_meta("countdown", "2*(3 + 4)", numbers=[2, 3, 4], target=14)
SPELLED = [
    (from_meta("calendar_arithmetic", "Tuesday", task="weekday_of_date"), r"\text{Tuesday}"),
    (from_meta("calendar_arithmetic", "Tuesday", task="weekday_of_date"), r"\textbf{Tuesday}"),
    (from_meta("chain_sum", "1234"), r"1,234"),
    (from_meta("chain_sum", "1234"), r"1{,}234"),
    (from_meta("count_primes", "1234"), r"$1{,}234$"),
    (from_meta("gsm_symbolic", "1234"), r"\$1,234"),
    (from_meta("gsm_symbolic", "20"), r"20\text{ dollars}"),
    (from_meta("gsm_symbolic", "20"), r"20.0"),
    (from_meta("dice", "3/8"), r"\frac{3}{8}"),
    (from_meta("dice", "3/8"), r"\dfrac{3}{8}"),
    (from_meta("rotate_matrix", "1 2\n3 4"), "\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}"),
    (from_meta("rotate_matrix", "1 2\n3 4"), "\n1 2 \n3 4\n"),
    (from_meta("ab", "A# #B"), r"\text{A\# \#B}"),
    (from_meta("quantum_lock", "C → A → B"), r"C \rightarrow A \rightarrow B"),
    (from_meta("prime_factorization", "2 × 3 × 3"), r"2 \times 3 \times 3"),
    (from_meta("codeio", '{"a": "}{{"}'), '{"a": "}{{"}'),
    (from_meta("codeio", '{"a": ["x{"]}'), '{"a":["x{"]}'),
    (INTEGRAL, r"\frac{x^{3}}{3} + C"),
    (INTEGRAL, r"\frac{1}{3}*x^3"),
    (INTEGRAL, r"x**3/3 + 7"),
    (SUM, r"2 \times (3 + 4)"),
    (SUM, r"2 \cdot \left(4 + 3\right)"),
    (SUM, "(3 + 4)*2"),
]


@pytest.mark.parametrize(("problem", "text"), SPELLED)
def test_an_answer_in_latex_is_what_it_shows(problem: Problem, text: str) -> None:
    verdict = verify(problem, f"It is \\boxed{{{text}}}", "t")
    assert verdict.outcome == "correct", verdict.detail


GRID = "[[0,1],[1,0]]"
HALTS = from_meta("game_of_life_halting", "False")
PUZZLE = from_meta("puzzle24", "4*8 - 6 - 2", numbers=[4, 8, 6, 2])
WORD = from_meta("figlet_font", "CONSTELLATION")
# To all of these the scorers give 1.0.
WRONG: list[tuple[Problem, str]] = [
    (HALTS, "True"),
    (HALTS, "I do not know"),
    (PUZZLE, "6*4*1*1"),
    (PUZZLE, "4*8 - 6 - 2 + 0/1"),
    (PUZZLE, "(4*8 - 6 - 2)*1"),
    (from_meta("puzzle24", "", numbers=[7, 7, 2, 4]), "7*7/2 - 4/10*0"),
    (from_meta("puzzle24", "", numbers=[1, 2, 7, 7]), "7*7/2*1"),
    (from_meta("coin_flip", "0.234375"), "0"),
    (from_meta("coin_flip", "0.234375"), "0.2"),
    (from_meta("coin_flip", "6.103515625e-05"), "0"),
    (from_meta("coin_flip", "0.003173828125"), "0.00317"),
    (from_meta("coin_flip", "0.003173828125"), "0.003173828126"),
    (from_meta("decimal_arithmetic", "4.86090396050"), "4.86"),
    (from_meta("decimal_arithmetic", "4.86090396050"), "4.86090396051"),
    (from_meta("number_format", "741787256.323", solution=741787256.323), "741787256.32"),
    (from_meta("pool_matrix", "3.0 5.22\n4.67 2.67"), "3.0 5.22\n4.67 2.68"),
    (from_meta("word_sorting", "a, b", sorted_words=["a", "b"]), "a, b, c"),
    (from_meta("letter_jumble", "two words"), "two words more"),
    (from_meta("survo", "1 2\n3 4", board_size=2, solution=[[1, 2], [3, 4]]), "1 2\n3 4\nor 5"),
    (
        from_meta("knights_knaves", "Ann is a sage, and Bo is a fool."),
        "is Ann a sage, and Bo is a fool.",
    ),
    (
        from_meta("time_intervals", "67 days, 01:04:00", task_type="datetime_tz"),
        "67 days, 01:04:00, 1",
    ),
    (
        from_meta(
            "fraction_simplification", "1/2", simplified_numerator=1, simplified_denominator=2
        ),
        "1/2 or 7",
    ),
    (from_meta("gsm_symbolic", "5"), "not 5"),
    (from_meta("coin_flip", "0.9999694824"), "1"),
    (from_meta("complex_arithmetic", "8.0 + 3.0i", result=[8.0, 3.0]), "nan"),
    (from_meta("number_sorting", "['1.0', '2.0']", direction="ascending"), "[1.5, 2.5]"),
    (from_meta("number_sorting", "['1.0', '2.0']", direction="ascending"), "[NaN, NaN]"),
    (from_meta("game_of_life", GRID), "[[0,1,1],[1,0,1],[1,1,1]]"),
    (from_meta("codeio", "[]"), "{}"),
    (WORD, "constellatxxx"),
    (from_meta("gsm_symbolic", "5"), "-5"),
    (from_meta("gsm_symbolic", "5"), "5 or 6"),
    (from_meta("polynomial_equations", ""), "nonsense"),
    (from_meta("polynomial_equations", "1.5"), "1.5, nonsense"),
    (INTEGRAL, "Integral(x**2, x)"),
]


@pytest.mark.parametrize(("problem", "text"), WRONG)
def test_what_a_scorer_wrongly_accepts_is_incorrect(problem: Problem, text: str) -> None:
    verdict = verify(problem, f"\\boxed{{{text}}}", "t")
    assert (verdict.outcome, verdict.extracted) == ("incorrect", text)


RIGHT = [
    (HALTS, "false"),
    (PUZZLE, "8*4 - (6 + 2)"),
    (from_meta("coin_flip", "0.234375"), "15/64"),
    (from_meta("coin_flip", "0.234375"), "0.2344"),
    (from_meta("coin_flip", "0.9999694824"), "0.99997"),
    (from_meta("coin_flip", "1.0"), "1"),
    (from_meta("decimal_arithmetic", "4.86090396050"), "4.8609039605"),
    (from_meta("number_format", "741787256.323", solution=741787256.323), "741,787,256.323"),
    (from_meta("pool_matrix", "3.0 5.22\n4.67 2.67"), "3 5.222\n4.667 2.67"),
    (from_meta("word_sorting", "a, b", sorted_words=["a", "b"]), "a,b"),
    (
        from_meta("knights_knaves", "Ann is a sage, and Bo is a fool."),
        "Bo is a fool, and Ann is a sage.",
    ),
    (from_meta("complex_arithmetic", "8.0 + 3.0i", result=[8.0, 3.0]), "8+3i"),
    (from_meta("number_sorting", "['1.0', '2.0']", direction="ascending"), "[1, 2.00]"),
    (from_meta("game_of_life", GRID), "[[0, 1], [1, 0]]"),
    (WORD, "Constellation"),
    (from_meta("polynomial_equations", ""), ""),
    (from_meta("polynomial_equations", ""), "\\text{no real solutions}"),
]


@pytest.mark.parametrize(("problem", "text"), RIGHT)
def test_what_a_scorer_rightly_accepts_stays_correct(problem: Problem, text: str) -> None:
    assert verify(problem, f"\\boxed{{{text}}}", "t").outcome == "correct"


# Each writes a file where it is evaluated. No braces: what stands in a box has them in pairs.
LIST = "[open('{path}', 'w').close() or 'x']"
CALL = "open('{path}', 'w')"
CODE = [
    ("binary_matrix", from_meta("binary_matrix", "1"), LIST),
    ("n_queens", from_meta("n_queens", "1", valid_answers=[]), LIST),
    ("spiral_matrix", from_meta("spiral_matrix", "1"), LIST),
    ("string_insertion", from_meta("string_insertion", "1"), LIST),
    ("countdown", SUM, CALL),
    ("puzzle24", PUZZLE, CALL),
    ("polynomial_multiplication", from_meta("polynomial_multiplication", "x**2"), CALL),
    ("simple_integration", INTEGRAL, CALL),
    ("intermediate_integration", from_meta("intermediate_integration", "x", variable="x"), CALL),
]


@pytest.mark.parametrize(("family", "problem", "code"), CODE)
def test_no_answer_is_run_as_code(family: str, problem: Problem, code: str, tmp_path: Path) -> None:
    import reasoning_gym

    naive, ours = tmp_path / "naive", tmp_path / "ours"
    scorer = reasoning_gym.create_dataset(family, seed=0, size=1)
    scorer.score_answer(code.format(path=naive), problem.meta["entry"])
    assert naive.exists()  # or this test would show nothing
    for text in (code.format(path=ours), rf"\text{{{code.format(path=ours)}}}"):
        assert verify(problem, f"\\boxed{{{text}}}", "t").outcome == "incorrect"
    assert not ours.exists()


@pytest.mark.parametrize(
    ("family", "answer", "metadata", "text"),
    [
        ("number_sorting", "{code}", {"direction": "ascending"}, "[]"),
        ("polynomial_multiplication", "{code}", {}, "1"),
        ("bitwise_arithmetic", "1", {"problem": "{code}"}, "1"),
        ("simple_integration", "1", {"variable": "x", "integrand": "{code}"}, "1"),
        ("intermediate_integration", "1", {"variable": "x", "integrand": "{code}"}, "1"),
    ],
)
def test_no_problem_is_run_as_code(
    family: str, answer: str, metadata: dict[str, str], text: str, tmp_path: Path
) -> None:
    code = CALL.format(path=tmp_path / "here")
    filled = {name: value.format(code=code) for name, value in metadata.items()}
    verdict = verify(
        from_meta(family, answer.format(code=code), **filled), f"\\boxed{{{text}}}", "t"
    )
    assert verdict.outcome == "unverifiable"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    [
        "().__class__", "x.diff", "(lambda: x)()", "eval(x)", "exec", "__import__", "x[0]", "'x'",
        "f(x)(y)(z).a", "print(1)", "S('x')", "sympify(x)", "input()", "(input)()", "exit()",
        "1if x", "a := 1", "x;y", "0x10", "x\\\ny", "\uff4fpen(x)", "@", "Integral(x, x)", "`x`",
        "#",
    ],
)  # fmt: skip
def test_an_expression_is_numbers_letters_and_known_functions(text: str) -> None:
    assert not may_see_answer("simple_integration", text)


@pytest.mark.parametrize(
    "text",
    [
        "2*(-10*x - 10)**(3/2)/3 + C", "-cos(x)*x + sin(x)", "log(Abs(x))", "exp(-2*x)", "1.5e-3*X",
        "x1 + y2", "sqrt(x)", "asin(x)/2", "arctan(x)", ".5*x", "2.*x", "",
    ],
)  # fmt: skip
def test_an_antiderivative_may_be_evaluated(text: str) -> None:
    assert may_see_answer("intermediate_integration", text)


def test_what_may_be_evaluated_is_found_out_in_linear_time() -> None:
    assert not may_see_answer("simple_integration", "1.1" * 300_000 + "@")
    assert not may_see_answer("simple_integration", "x" * 300_000 + "@")


def test_every_scorer_that_evaluates_text_is_known() -> None:
    """A new version of reasoning-gym may bring another."""
    from reasoning_gym.factory import DATASETS

    evaluates = re.compile(r"\b(?:eval|exec|sympify|parse_expr|parse_latex|lambdify|compile|S)\(")
    own = re.compile(r"^def parse_expr", re.MULTILINE)  # a parser of its own is none of Python's
    # What these evaluate they wrote themselves, when they made the problem.
    harmless = {"basic_arithmetic", "bf", "codeio"}
    found = set()
    for family, (dataset, _) in DATASETS.items():
        source = inspect.getsource(sys.modules[dataset.__module__]).replace("re.compile(", "")
        if evaluates.search(source) and not own.search(source):
            found.add(family)
    assert found - harmless == EVALUATING


def test_a_batch_keeps_its_order_and_no_row_costs_another() -> None:
    good = [problem for family in ("chain_sum", "arc_agi", "jugs") for problem in problems(family)]
    numbered = [(problem, f"\\boxed{{{own_answer(problem)}}}") for problem in good]
    odd: list[tuple[Problem, str | None, str]] = [
        (dataclasses.replace(good[0], meta={}), "\\boxed{1}", "unverifiable"),
        (from_meta("no_such_family", "1"), "\\boxed{1}", "error"),
        (from_meta("chain_sum", "1", odd={(1, 2): 3}), "\\boxed{1}", "unverifiable"),
        (from_meta("tower_of_hanoi", "1"), "\\boxed{Move disk 1 from Peg 1 to Peg 2}", "error"),
        (INTEGRAL, "\\boxed{9**9**9**9**9}", "error"),
        (good[0], "no box", "incorrect"),
        (good[0], None, "incorrect"),
        (good[0], "\\boxed{\ud800}", "incorrect"),
    ]
    rows = list(itertools.chain(*zip(numbered, [row[:2] for row in odd], strict=False)))
    rows += numbered[len(odd) :]
    judged = reasoning_gym_many(rows, seconds=2.0, workers=2)
    wanted = list(itertools.chain(*(("correct", row[2]) for row in odd)))
    assert [judgement.outcome for judgement in judged[: len(wanted)]] == wanted
    assert {judgement.outcome for judgement in judged[len(wanted) :]} == {"correct"}
    assert [judgement.extracted for judgement in judged[-2:]] == [
        own_answer(problem) for problem in good[-2:]
    ]


HOSTILE = [
    "[" * 90_000,
    "[" * 20_000 + "]" * 20_000,
    "(" * 5_000 + "1" + ")" * 5_000,
    "-" * 3_000 + "1",
    "9**9**9**9**9",
    "factorial(10**9)",
    "1e999999999",
    "0" * 90_000,
    "9" * 90_000,
    "x" * 1_000_000,
    " " * 90_000 + "\\\\" + " " * 9_000,
    "\\text" + " " * 90_000,
    "\\frac{1}" * 10_000,
    "^" * 90_000,
    "A+99999999999",
    "\x00",
    "\ud800",
    "\u202e4",
    '{"a": ' * 9_000,
]


@pytest.mark.parametrize(
    "family", ["simple_integration", "countdown", "coin_flip", "jugs", "rush_hour", "pool_matrix"]
)
def test_no_hostile_answer_hangs_or_is_correct(family: str) -> None:
    (first, *_) = problems(family)
    rows = [(first, f"\\boxed{{{text}}}") for text in HOSTILE]
    begin = time.monotonic()
    judged = reasoning_gym_many([*rows, (INTEGRAL, r"\boxed{x**3/3}")], seconds=1.0, workers=1)
    late = [judgement for judgement in judged if "timed out" in judgement.detail]
    assert time.monotonic() - begin < 10 + 2.5 * len(late)
    assert {judgement.outcome for judgement in judged[:-1]} <= {"incorrect", "error"}
    assert judged[-1].outcome == "correct"


def test_only_a_boxed_answer_is_scored() -> None:
    (first, *_) = problems("chain_sum")
    verdict = verify(first, f"The answer is {own_answer(first)}.", "t")
    assert (verdict.outcome, verdict.extracted) == ("incorrect", None)
    assert verdict.detail == "no \\boxed{…} in the answer"
    assert verdict.verifier.startswith("reasoning_gym/")


def test_an_entry_as_its_generator_made_it_is_judged_too() -> None:
    import reasoning_gym

    for family in ("arc_agi", "number_sorting", "graph_color", "pool_matrix"):
        entry = reasoning_gym.create_dataset(family, seed=5, size=1)[0]
        problem = from_meta(family, None)
        problem = dataclasses.replace(problem, meta={**problem.meta, "entry": entry})
        assert verify(problem, f"\\boxed{{{own_answer(problem)}}}", "t").outcome == "correct"


def test_an_entry_whose_own_answer_its_scorer_refuses_is_reported() -> None:
    spoiled = from_meta("simple_integration", "x**3 + C", variable="x", integrand="x**2")
    circular = dataclasses.replace(
        from_meta("simple_integration", "Integral(f)", variable="x", integrand="x"), id="circular"
    )
    lacking = dataclasses.replace(INTEGRAL, meta={}, id="lacking")
    found = doubtful([INTEGRAL, spoiled, circular, lacking, SUM])
    assert [(doubt.problem_id, doubt.outcome) for doubt in found] == [
        ("simple_integration", "incorrect"),
        ("circular", "incorrect"),
        ("lacking", "unverifiable"),
    ]


def test_the_scorer_serves_each_config_with_its_own_options() -> None:
    score = open_scorer()
    for most, outcome in ((10, "correct"), (6, "incorrect")):
        asked = ["puzzle24", {"min_value": 1, "max_value": most}, PUZZLE.meta["entry"]]
        assert score(json.dumps(asked), "4*8 - 6 - 2")[0] == outcome


def test_what_a_table_holds_as_text_is_read() -> None:
    (first, *_) = problems("chain_sum")
    entry = {**first.meta["entry"], "metadata": json.dumps(first.meta["entry"]["metadata"])}
    meta = {**first.meta, "config": json.dumps(first.meta["config"]), "entry": json.dumps(entry)}
    stored = dataclasses.replace(first, meta=meta)
    assert verify(stored, f"\\boxed{{{own_answer(stored)}}}", "t").outcome == "correct"
    spoiled = dataclasses.replace(first, meta={**meta, "entry": "[]"})
    assert verify(spoiled, "\\boxed{1}", "t").outcome == "unverifiable"
