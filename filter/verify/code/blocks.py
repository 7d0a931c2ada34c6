"""Find the code in an answer: its fenced blocks, or the Python between its prose."""

from __future__ import annotations

import ast
import re

_FENCE = re.compile(
    r"(?P<indent>[ \t>]*)(?P<ticks>`{3,}|~{3,})[ \t]*\{?\.?(?P<label>[\w+.#-]*)[^`]*"
)
# A fence at the end of a line that begins with something else.
_LATE_FENCE = re.compile(r"^([^`\n]*[^`\s>])[ \t]*(```\w*)[ \t]*$", re.MULTILINE)
_PYTHON = frozenset({"python", "python3", "py", "py3", "pypy", "pypy3"})
_SESSION = re.compile(r"\s*>>> ")
# How a line of Python begins that no sentence does.
_STATEMENT = re.compile(
    r"(?:import|from|def|class|async|if|for|while|try|with) .*|try:|@\w.*"
    r"|[A-Za-z_][\w.]*(?:\[[^\]]*\])?(?: *, *\w+)* *(?:[-+*/%]?=|\().*"
)
_SPAN = re.compile(r"(?<!`)(`{1,2})(?!`)(?:python\n)?([^`]+)(?<!`)\1(?!`)")
_AFTER_COLON = re.compile(r":\**[ \t]+(\S.*)$", re.MULTILINE)
# Of one answer, however its author tries to waste time.
_MOST_PARSES, _MOST_PARSED = 200, 50_000


def parse(source: str) -> ast.Module | SyntaxError:
    """The syntax tree of a program, or what is wrong with it, such as more than 50,000 characters.
    Nothing is compiled or run.
    """
    if len(source) > _MOST_PARSED:
        return SyntaxError("too long")
    try:
        return ast.parse(source)
    except SyntaxError as error:
        return error
    except (ValueError, RecursionError, MemoryError) as error:
        return SyntaxError(str(error))


def code_blocks(answer: str) -> list[str]:
    """The blocks of code in the text after the last `</think>`, in order, at least one: those
    labelled as Python, else those without a label that are Python, else spans of several lines in
    single backticks, the Python between the prose, such spans of one line, or what follows a colon,
    else all of the text, which may be the body of a function, or no program.

    A fence in a string of the program closes nothing. A block that is not closed extends to the
    end, and one that is closed but was not opened begins with the text.
    """
    text = answer.rpartition("</think>")[2].replace("\r\n", "\n")
    text = _LATE_FENCE.sub(r"\1\n\2", text)
    lines = text.split("\n")
    fences = [number for number, line in enumerate(lines) if _FENCE.fullmatch(line)]
    if not fences:
        if _does_something(parse(text)):
            return [text]
        return _inline(text, "\n") or _bare(text) or _inline(text, "") or [text]
    first = _FENCE.fullmatch(lines[fences[0]])
    before: list[str] = []
    if len(fences) % 2 and first and not first["label"]:
        before = _bare("\n".join(lines[: fences[0]]) + "\n")
    found = _fenced(lines[fences[0] + 1 :] if before else lines)
    labelled = [content for label, content in found if label in _PYTHON]
    plain = [content for label, content in found if not label]
    python = [content for content in plain if isinstance(parse(content), ast.Module)]
    blocks = [b for b in labelled or python or plain[-1:] if not _SESSION.match(b)]
    return [*before, *(labelled if before else blocks)] or [text]


def _fenced(lines: list[str]) -> list[tuple[str, str]]:
    """Fenced blocks, each as its label in lower case and its content."""
    blocks: list[tuple[str, str]] = []
    at, parses = 0, _MOST_PARSES
    while at < len(lines):
        fence = _FENCE.fullmatch(lines[at])
        at += 1
        if fence is None:
            continue

        def content(end: int, begin: int = at, indent: str = fence["indent"]) -> str:
            return "\n".join(line.removeprefix(indent) for line in lines[begin:end]) + "\n"

        first = end = _closing(lines, at, fence["ticks"])
        tree = parse(content(end))
        while end < len(lines) and parses > 0 and _ends_in_string(tree):
            parses -= 1
            end = _closing(lines, end + 1, fence["ticks"])
            tree = parse(content(end))
        if isinstance(tree, SyntaxError):
            end = first
        blocks.append((fence["label"].lower(), content(end)))
        at = end + 1
    return blocks


def _closing(lines: list[str], begin: int, ticks: str) -> int:
    """The line of the next fence that can close a block; past the last where there is none."""
    for number in range(begin, len(lines)):
        fence = _FENCE.fullmatch(lines[number])
        if fence and not fence["label"] and fence["ticks"].startswith(ticks):
            return number
    return len(lines)


def _ends_in_string(tree: ast.Module | SyntaxError) -> bool:
    return isinstance(tree, SyntaxError) and "unterminated triple-quoted" in tree.msg


def _inline(text: str, holding: str) -> list[str]:
    """The Python in single backticks that holds a text; without any, that after a colon."""
    for found in (_SPAN.findall(text), [("", line) for line in _AFTER_COLON.findall(text)]):
        sources = [
            source.strip("\n") + "\n" for _, source in found[:_MOST_PARSES] if holding in source
        ]
        if programs := [one for one in sources if _does_something(parse(one))]:
            return programs
    return []


def _does_something(tree: ast.Module | SyntaxError) -> bool:
    """Whether it is a program, or a body, rather than a name or a formula that is mentioned."""
    return isinstance(tree, ast.Module) and any(
        isinstance(statement.value, ast.Call)
        if isinstance(statement, ast.Expr)
        else not isinstance(statement, ast.AnnAssign) or statement.value is not None  # `Answer: 4`
        for statement in tree.body
    )


def _bare(text: str) -> list[str]:
    """The Python in a text without fences: all of it, or what stands between the prose."""
    if text[: len(text) - len(text.lstrip())].rpartition("\n")[2]:
        return [text]  # it begins indented: the body of a function
    if _does_something(parse(text)):
        return [text]
    lines = text.split("\n")
    found: list[str] = []
    at, parses = 0, _MOST_PARSES
    while at < len(lines) and parses > 0:
        end = len(lines) if _STATEMENT.fullmatch(lines[at]) else at
        while end > at and parses > 0:
            parses -= 1
            tree = parse("\n".join(lines[at:end]))
            if isinstance(tree, ast.Module):
                break
            end = min(end - 1, at + (tree.lineno or 1) - 1)  # what follows is prose again
        if end < len(lines) and lines[end][:1].isspace() and lines[end].strip():
            return [text]  # no prose follows, but lines that are indented for a function's body
        if end > at:
            found.append("\n".join(lines[at:end]) + "\n")
        at = max(end, at + 1)
    return found
