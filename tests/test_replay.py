"""General data that the student learns beside the traces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kept_run import make_run, row

from tracestill.recipe.errors import RecipeError
from tracestill.recipe.paths import check_paths
from tracestill.records import Learnt, read_manifest, read_table
from tracestill.records.progress import ignore_progress
from tracestill.run.pipeline import make_stage
from tracestill.stages.examples import kept_examples
from tracestill.stages.replay import replay_examples

ROOT = Path(__file__).parent.parent


def general(folder: Path, count: int, thinks: bool = True) -> None:
    thought = "<think>\nA greeting.\n</think>\n\n" if thinks else ""
    rows = [{"prompt": f"Say hello {n} times.", "response": f"{thought}{'hello ' * n}"}
            for n in range(1, count + 1)]  # fmt: skip
    (folder / "general.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))


def section(**values: Any) -> dict[str, Any]:
    return {
        "student": str(ROOT / "miniature/student"), "template": "miniature", "max_length": 256,
        "epochs": 1, "holdout": 0.3, "replay": {"path": "general.jsonl", "share": 0.25}, **values,
    }  # fmt: skip


def test_a_share_of_general_data_is_learnt_and_never_held_out(tmp_path: Path) -> None:
    general(tmp_path, 40)
    recipe, run = make_run(tmp_path, [row(n) for n in range(20)], finetune=section())
    kept = kept_examples(recipe, run)
    replayed = replay_examples(recipe.finetune, kept)
    assert [one.prompt for one in replayed] == [
        f"Say hello {n} times." for n in range(1, len(replayed) + 1)
    ]
    sizes = [
        sum(len(one.prompt + one.reasoning + one.answer) for one in some)
        for some in (replayed[:-1], replayed, kept)
    ]
    assert sizes[0] < sizes[2] / 3 <= sizes[1]
    make_stage("finetune", recipe, run, ignore_progress)
    learnt = list(read_table(run / "finetune", "learnt", Learnt))
    ours = [one for one in learnt if one.trace_id.startswith("replay-")]
    assert len(ours) == len(replayed)
    assert not any(one.heldout for one in ours)
    assert any(one.heldout for one in learnt)
    manifest = read_manifest(run / "finetune")
    assert manifest is not None
    assert manifest.notes[0] == f"{len(replayed)} rows of general data are learnt beside"
    assert manifest.rows_in == len(kept) + len(replayed)


def test_rows_that_would_teach_not_to_think_are_refused(tmp_path: Path) -> None:
    general(tmp_path, 40, thinks=False)
    recipe, run = make_run(tmp_path, [row(n) for n in range(4)], finetune=section())
    with pytest.raises(ValueError, match=r"learn not to think: set finetune\.mixed: true"):
        make_stage("finetune", recipe, run, ignore_progress)
    mixed = recipe.finetune.model_copy(update={"mixed": True})
    assert replay_examples(mixed, kept_examples(recipe, run))


def test_too_few_rows_are_told(tmp_path: Path) -> None:
    general(tmp_path, 1)
    recipe, run = make_run(tmp_path, [row(n) for n in range(20)], finetune=section())
    with pytest.raises(ValueError, match=r"its 1 rows are \d+% of what a share of 0.25 takes"):
        make_stage("finetune", recipe, run, ignore_progress)


def test_replay_says_where_its_rows_are(tmp_path: Path) -> None:
    recipe, _ = make_run(tmp_path, [row(1)], finetune=section())
    with pytest.raises(RecipeError, match=r"finetune\.replay\.path: there is no .* file at"):
        check_paths(recipe)
    with pytest.raises(ValueError, match="say where the rows are"):
        make_run(tmp_path, [], finetune=section(replay={"share": 0.1}))
