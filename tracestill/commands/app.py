"""The `tracestill` command: its subcommands, and errors in one line."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from tracestill.commands import run
from tracestill.commands.ablate import ablate
from tracestill.commands.chat import chat
from tracestill.commands.compare import compare
from tracestill.commands.curate import curate
from tracestill.commands.doctor import doctor
from tracestill.commands.evaluate import evaluate
from tracestill.commands.export import export
from tracestill.commands.harness import harness
from tracestill.commands.new import new
from tracestill.commands.pairs import pairs
from tracestill.commands.plan import plan
from tracestill.commands.preview import preview
from tracestill.commands.push import push
from tracestill.commands.recipes import recipes
from tracestill.commands.score import score
from tracestill.commands.serve import serve
from tracestill.commands.status import status
from tracestill.commands.validate import schema, validate
from tracestill.commands.verify import verify
from tracestill.commands.view import view
from tracestill.commands.why import why

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Distil the reasoning of a large teacher into a small student.",
)
for command in (
    run.run, run.generate, run.filter_, run.finetune, evaluate, compare, harness, run.report,
    ablate, validate, verify, curate, serve, plan, preview, score, pairs, chat, export,
    push, status, view, why, recipes, new, doctor, schema,
):  # fmt: skip
    app.command(command.__name__.rstrip("_"))(command)


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Read by `main`, which also takes it after the subcommand."""


def _fail(error: BaseException) -> int:
    """Tell the user in a line what went wrong, and how to see more."""
    from tracestill.recipe.errors import RecipeError
    from tracestill.run.errors import StageError, StoppedError, explain

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
    arguments = sys.argv[1:]
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
