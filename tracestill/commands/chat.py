"""`tracestill chat`: talk to the student of a run, and see it reason."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tracestill.commands.options import RunPath

if TYPE_CHECKING:
    from tracestill.explore.chat import Student


def chat(
    run: RunPath,
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
    from tracestill.explore.chat import open_student

    _talk(
        open_student(run, base=base, system=system, temperature=temperature, max_tokens=max_tokens)
    )


def _talk(student: Student) -> None:
    """Talk in the terminal until Ctrl-D. Where questions come from a pipe, one a line, each answer
    is printed as a line.
    """
    from rich.console import Console

    from tracestill.explore.chat import answer

    interactive = sys.stdin.isatty()
    console = Console(highlight=False, soft_wrap=True)

    def show(text: str, reasoning: bool) -> None:
        if interactive:
            console.print(text, end="", markup=False, style="dim" if reasoning else None)

    begin = [{"role": "system", "content": student.system}] if student.system else []
    messages = list(begin)
    if interactive:
        import readline  # noqa: F401 (so that `input` can edit)

        console.print(
            "Ctrl-C stops an answer, /new starts a new chat, /quit or Ctrl-D leaves.",
            style="dim",
        )
    while True:
        try:
            asked = input("\n> " if interactive else "").strip()
        except KeyboardInterrupt:
            print()
            continue
        except EOFError:
            return
        if asked == "/quit":
            return
        if asked == "/new":
            messages = list(begin)
        if not asked or asked == "/new":
            continue
        messages.append({"role": "user", "content": asked})
        try:
            reply = answer(student, messages, show)
        except ValueError as error:
            if not interactive:
                raise
            print(error)
            messages.pop()
            continue
        messages.append({"role": "assistant", "content": reply.text})
        if not interactive:
            line = f"(no answer within {student.max_tokens:,} tokens)"
            print(line if reply.answer is None else " ".join(reply.answer.split()), flush=True)
        else:
            print("" if reply.ended else "\n(cut off)")
