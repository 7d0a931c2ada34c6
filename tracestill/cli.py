"""The `tracestill` command."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.exceptions import TyperException

from tracestill.layout import RECIPE, STAGES, Stage

if TYPE_CHECKING:
    from tracestill.recipe import Recipe

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Distil the reasoning of a large teacher into a small student.",
)
_state = {"debug": False}

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe (YAML).")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=VALUE", help="Change a key of the recipe; repeatable."),
]
Out = Annotated[
    Path | None, typer.Option("--out", help="The run's folder; runs/<name> by default.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def _stage(name: str | None, option: str) -> Stage | None:
    if name is None:
        return None
    if name not in STAGES:
        raise ValueError(f"{option} {name}: the stages are {', '.join(STAGES)}")
    return name


def _run(
    path: Path,
    overrides: list[str] | None,
    out: Path | None,
    quiet: bool,
    start: str | None = None,
    stop: str | None = None,
) -> None:
    from tracestill.loading import check_paths, load_recipe
    from tracestill.pipeline import run_recipe
    from tracestill.terminal import print_summary, show_progress

    first, last = _stage(start, "--from"), _stage(stop, "--to")
    if first and last and STAGES.index(first) > STAGES.index(last):
        raise ValueError(f"--from {first} comes after --to {last}")
    recipe = load_recipe(path, overrides or ())
    check_paths(recipe)
    run = out or Path("runs") / recipe.name
    _warn(recipe)
    with show_progress(quiet) as listener:
        summary = run_recipe(recipe, run, listener, start=first, stop=last)
    if not quiet:
        print_summary(summary, run)


def _warn(recipe: Recipe) -> None:
    for line in recipe.finetune.warnings():
        typer.echo(f"note: {line}", err=True)


@app.callback()
def _options(debug: Debug = False) -> None:
    _state["debug"] = debug


@app.command()
def run(
    recipe: RecipePath,
    set_: Set = None,
    out: Out = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="Make this stage and later anew.")
    ] = None,
    stop: Annotated[
        str | None, typer.Option("--to", metavar="STAGE", help="Stop after this stage.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Run a recipe end to end; what is there already is reused."""
    _run(recipe, set_, out, quiet, start, stop)


@app.command()
def generate(recipe: RecipePath, set_: Set = None, out: Out = None, quiet: Quiet = False) -> None:
    """Make the problems and sample the teacher."""
    _run(recipe, set_, out, quiet, stop="generate")


@app.command(name="filter")
def filter_(recipe: RecipePath, set_: Set = None, out: Out = None, quiet: Quiet = False) -> None:
    """Verify and filter the traces, and make what that needs."""
    _run(recipe, set_, out, quiet, stop="filter")


@app.command()
def finetune(recipe: RecipePath, set_: Set = None, out: Out = None, quiet: Quiet = False) -> None:
    """Fine-tune the student, and make what that needs."""
    _run(recipe, set_, out, quiet, stop="finetune")


@app.command()
def evaluate(recipe: RecipePath, set_: Set = None, out: Out = None, quiet: Quiet = False) -> None:
    """Judge student and teacher, and make what that needs."""
    _run(recipe, set_, out, quiet, stop="evaluate")


@app.command()
def report(recipe: RecipePath, set_: Set = None, out: Out = None, quiet: Quiet = False) -> None:
    """Write the report, and make what that needs."""
    _run(recipe, set_, out, quiet, stop="report")


@app.command()
def validate(recipe: RecipePath, set_: Set = None) -> None:
    """Check a recipe and the files that it names; nothing is run."""
    from tracestill.loading import check_paths, load_recipe

    checked = load_recipe(recipe, set_ or ())
    check_paths(checked)
    _warn(checked)
    typer.echo(f"{recipe} is a good recipe: it makes the run {checked.name!r}.")


@app.command()
def verify(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Rows to judge: .jsonl, .parquet.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The same rows with verdicts.")],
    column: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="NAME=COLUMN", help="Where a column has another name."),
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", help="The kind of rows that name none: math, choice, …")
    ] = None,
    sandbox: Annotated[
        str,
        typer.Option("--sandbox", help="Where programs run: bubblewrap, piston=URL, … or e2b."),
    ] = "bubblewrap",
    quiet: Quiet = False,
) -> None:
    """Judge answers in a file: rows of id, kind, reference and completion."""
    from filter.sandbox import read_sandbox
    from tracestill.terminal import print_outcomes, show_rows
    from tracestill.verifying import verify_file

    pairs = [entry.partition("=") for entry in column or ()]
    if wrong := ["".join(pair) for pair in pairs if not all(pair)]:
        raise ValueError(f"--column {wrong[0]}: write it as --column completion=COLUMN")
    names = {name: column for name, _, column in pairs}
    place = read_sandbox(sandbox)
    with show_rows(quiet) as progress:
        counts = verify_file(source, target, names, kind, progress, place)
    if not quiet:
        print_outcomes(counts, target)


@app.command()
def serve(
    recipe: RecipePath,
    set_: Set = None,
    port: Annotated[int, typer.Option("--port", help="Where it listens on this machine.")] = 8000,
) -> None:
    """Serve the recipe's teacher with vLLM, for recipes with `engine: openai`, until Ctrl-C."""
    from generate.config import ImportTeacher
    from tracestill.loading import check_paths, load_recipe
    from tracestill.serving import pasted, serving

    loaded = load_recipe(recipe, set_ or ())
    check_paths(loaded)
    if isinstance(loaded.generate, ImportTeacher):
        raise ValueError("serve starts vLLM for a teacher; this recipe imports its traces")
    try:
        with serving(loaded.generate, port) as server:
            typer.echo(f"\nThe teacher answers. In a recipe:\n\n{pasted(loaded.generate, port)}")
            server.wait()
    except KeyboardInterrupt:
        typer.echo("The server has ended.")
        return
    raise ValueError(f"vLLM ended with status {server.returncode}: what it said stands above")


@app.command()
def plan(
    recipe: RecipePath,
    set_: Set = None,
    out: Out = None,
    pilot: Annotated[
        int, typer.Option("--pilot", min=0, help="Sample so many problems first; 0: none.")
    ] = 32,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="RUN", help="Go by what an earlier run took; no pilot."),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", metavar="GPU", help="Where the student learns: 24GB, H200, …"),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Say what sampling the teacher and training the student will take, and whether it fits."""
    from generate.config import ImportTeacher
    from tracestill.finetune_plan import plan_student
    from tracestill.loading import check_paths, load_recipe
    from tracestill.terminal import print_plan, print_student, show_progress

    loaded = load_recipe(recipe, set_ or ())
    check_paths(loaded)
    run = out or Path("runs") / loaded.name
    if source is not None and not (source / RECIPE).is_file():
        raise ValueError(f"--from {source} is no run: it has no {RECIPE}")
    sampled = (source or run) / "generate" / "journal.jsonl"
    if isinstance(loaded.generate, ImportTeacher):
        typer.echo("Teacher: its traces are imported; nothing is sampled.\n")
    elif not pilot and not sampled.exists():
        typer.echo("Teacher: nothing is sampled yet to go by; --pilot 32 samples a few problems.\n")
    else:
        from tracestill.pipeline import run_pilot
        from tracestill.planning import estimate

        with show_progress(quiet) as listener:
            run_pilot(loaded, run, 0 if source else pilot, listener)
        print_plan(estimate(loaded, run, source or run))
        typer.echo()
    try:
        planned = plan_student(loaded, run, source or run, gpu)
    except ValueError as error:
        if gpu:
            raise
        # The teacher's part stands; what the student's lacks is said, and is no failure.
        typer.echo(f"Student: {error}")
        return
    print_student(planned)


@app.command()
def preview(
    recipe: RecipePath,
    set_: Set = None,
    out: Out = None,
    samples: Annotated[
        int, typer.Option("--samples", min=1, help="How many, from short to long ones.")
    ] = 3,
    trace: Annotated[
        str | None, typer.Option("--trace", metavar="ID", help="This one, and all of it.")
    ] = None,
) -> None:
    """Show samples as the student will learn them, and check all of them; nothing is trained."""
    from tracestill.loading import check_paths, load_recipe
    from tracestill.preview import preview as look
    from tracestill.preview import print_preview

    loaded = load_recipe(recipe, set_ or ())
    check_paths(loaded)
    print_preview(look(loaded, out or Path("runs") / loaded.name, samples, trace), loaded)


@app.command()
def chat(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    base: Annotated[
        bool, typer.Option("--base", help="Talk to the student as it was before.")
    ] = False,
    system: Annotated[
        str | None, typer.Option("--system", help="A system prompt; the recipe's by default.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", min=0, help="0 is greedy.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", min=1, help="The longest turn, with reasoning.")
    ] = None,
) -> None:
    """Talk to a run's student, or pipe questions to it, one a line."""
    from tracestill.chat import open_student, talk

    talk(
        open_student(run, base=base, system=system, temperature=temperature, max_tokens=max_tokens)
    )


@app.command()
def status(run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")]) -> None:
    """Say which stages of a run are complete and how far the others are."""
    from tracestill.terminal import print_status

    if not (run / RECIPE).is_file():
        raise ValueError(f"{run} is no run: it has no {RECIPE}; runs lie in runs/<name>")
    print_status(run)


@app.command()
def schema(
    check: Annotated[
        Path | None, typer.Option("--check", help="Fail if this file holds another schema.")
    ] = None,
) -> None:
    """Print the JSON schema of recipes, with which editors complete keys."""
    from tracestill.recipe import Recipe

    text = json.dumps(Recipe.model_json_schema(), indent=2) + "\n"
    if check is None:
        typer.echo(text, nl=False)
    elif not check.is_file() or check.read_text() != text:
        raise ValueError(f"{check} is out of date: run `make schema`")


def _fail(error: BaseException) -> int:
    """Tell the user in a line what went wrong, and how to see more."""
    from tracestill.child import explain
    from tracestill.loading import RecipeError
    from tracestill.pipeline import StageError, StoppedError

    status = 1
    if isinstance(error, StoppedError):
        line = f"stopped during {error}; what was finished is kept: the same command goes on"
        status = 130
    elif isinstance(error, StageError):
        line = f"{error.stage} failed: {error}\n  log: {error.log}"
    elif isinstance(error, RecipeError):
        line = "\ntracestill: ".join(str(error).splitlines())  # a line for each mistake
    else:
        line = explain(error)
    print(f"tracestill: {line}", file=sys.stderr)
    return status


def main() -> None:
    """The entry point: any error ends in one readable line and a non-zero status."""
    arguments: Any = sys.argv[1:]
    debug = "--debug" in arguments
    try:
        app(args=[a for a in arguments if a != "--debug"], standalone_mode=False)
    except (typer.Exit, typer.Abort) as error:
        sys.exit(getattr(error, "exit_code", 1))
    except KeyboardInterrupt:
        print("tracestill: stopped", file=sys.stderr)
        sys.exit(130)
    except TyperException as error:
        if said := " ".join(error.format_message().split()):  # the help, asked for by no words
            end = "" if said.endswith((".", "?")) else "."
            print(f"tracestill: {said}{end} See `tracestill --help`.", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:
        # The outermost boundary: whatever it is, the user gets a line, and with --debug all.
        if debug:
            raise
        sys.exit(_fail(error))


if __name__ == "__main__":
    main()
