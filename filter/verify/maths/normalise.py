r"""One spelling for what people write in several: unicode, spacing, wrappers, `\dfrac`."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_UNIT_IN_BRACKETS = re.compile(r"(?<=\d) ?\(([^\W\da-zA-Z_]{1,12})\)$")
_ROOT = re.compile(r"√\s*(?:(\d+|[a-zA-Z])|\(([^()]*)\)|(?=\{))")
_POWERS = re.compile(r"\^(-)?\{(\d)\}(?:\^\{(\d)\})*")
_DIGIT = re.compile(r"\d")
_MONEY_AFTER = re.compile(r"[-\d.,]+ \$")

_FRAC = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
_SIZES = re.compile(
    r"\\(?:(?:left|right|bigl?|bigr?|Bigl?|Bigr?|biggl?|biggr?|Biggl?|Biggr?)(?![a-zA-Z])\s?\.?"
    r"|(?:displaystyle|textstyle|limits|tiny|small|normalsize|[lL]arge|LARGE|[hH]uge|rm|bf|it|tt|sf)"
    r"(?![a-zA-Z]))(?=\s*(?:[^.\d\s]|\s|$|\.?\d))"
)
_SPACES = re.compile(
    r"(?<!\\)\\(?:[,;:! ]|quad(?![a-zA-Z])|qquad(?![a-zA-Z])|hspace\{[^{}]*\})|~|\s+"
)
_THOUSANDS_MARKED = re.compile(r"(?<=\d)(?:\{,\}|,\s?\\!)\s?(?=\d{3}(?!\d))")
_WRAPPED = re.compile(
    r"\\(?:text|mathrm|mathbf|textbf|textit|textrm|mbox|mathit|boldsymbol|operatorname\*?|bm|hbox"
    r"|textnormal|texttt|textsf|mathsf|mathcal|ensuremath|emph)\s*\{([^{}]*)\}"
)
# What only shows its content: with braces that hold none the braces go as well.
_COLOUR = r"\\(?:textcolor|color|colorbox)(?:\[[^\]]*\])?\s?\{[^{}]*\}"
_SHOWN = re.compile(
    rf"{_COLOUR}|\\(?:underline|text|textbf|textit|mathrm|mathbf|boldsymbol|mbox|bm)(?=\s?\{{)"
)
_COLOURED = re.compile(
    rf"(?:{_COLOUR}|\\underline)\s?\{{([^{{}}]*)\}}|\{{\s?{_COLOUR}([^{{}}]*)\}}"
)
# Markdown and quotes around the whole answer.
_MARKED = re.compile(
    r"```\w*\s(?P<fenced>.*?)```|(?P<mark>`{1,3}|__|\*\*|\*|\"|'|_)(?P<marked>.+)(?P=mark)"
    r"|[\u201c\u300c\u3010\u00ab](?P<quoted>.+)[\u201d\u300d\u3011\u00bb]",
    re.DOTALL,
)
# Markdown around a part of it: no power has a space on one side only.
_MARKED_PART = re.compile(
    r"(?<!`)`{1,2}(?!`)|(?<=[^\s*])\*\*(?=[\s.,;]|$)|(?:(?<=\s)|^)\*\*(?=[^\s*])"
)
_MARKS = frozenset("`_*\"'\u201c\u300c\u3010\u00ab")
_TWO_DOLLARS = re.compile(r"\\\$([^$]*)\\\$")
_SYSTEM = re.compile(r"\\begin\{(?:cases|aligned)\}(.*)\\end\{(?:cases|aligned)\}", re.DOTALL)
_PERCENT = re.compile(r"(?<=[\d}]) ?(?:percent(?:age)?|pct)(?![a-zA-Z])")
_ABOUT = re.compile(r"(?:约|大约|approximately|approx\.?|about|roughly|exactly|\\approx|=) ?(?=\S)")
_PHRASE = re.compile(
    r"(?:(?:so|thus|hence|therefore),? )?(?:the )?(?:final |correct )?(?:answer|result)s?"
    r"(?: ?[:=] ?| is:? | are:? )(?!not )(?=\S)",
    re.IGNORECASE,
)
_DOLLARS = re.compile(r"\\\$|(?<!\\)\$")
_DISPLAY = re.compile(r"\\[\[\]()]")
_SIMPLE_BRACES = re.compile(r"([\^_])\{([0-9a-zA-Z])\}")
_FRAC_BARE = re.compile(r"\\frac\s?(?:\{([^{}]*)\}|([0-9a-zA-Z]))\s?(?:\{([^{}]*)\}|([0-9a-zA-Z]))")
_TABLE = Path(__file__).with_name("spellings.yaml")


@dataclass(frozen=True, slots=True)
class _Spellings:
    """What `spellings.yaml` holds."""

    characters: dict[int, str]
    commands: tuple[tuple[str, str], ...]
    placeholders: frozenset[str]


@cache
def _spellings() -> _Spellings:
    import yaml

    table = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))
    spelt = table["characters"].items()
    return _Spellings(
        characters={ord(char): spelling for spelling, chars in spelt for char in chars},
        commands=tuple(table["commands"].items()),
        placeholders=frozenset(table["placeholders"]),
    )


def is_placeholder(cleaned: str) -> bool:
    """Whether a cleaned reference is what tables hold where they have no answer."""
    return cleaned.strip("[]<>()_").casefold() in _spellings().placeholders


def clean(text: str) -> str:
    r"""The text in ASCII and plain LaTeX, with single spaces and without delimiters.

    Text in `\text{…}` and its like stands bare between spaces; a dollar that is money becomes
    `\usd`. Takes time linear in the text.
    """
    text = _unmarked(text.replace("~", " ").strip())
    if "`" in text or "**" in text:
        text = _MARKED_PART.sub("", text)
    if not text.isascii():
        text = _ascii(text)
    if "\\" in text:
        text = _FRAC.sub(r"\\frac", text)
        text = _SIZES.sub("", text)
        text = _THOUSANDS_MARKED.sub("", text)
        for _ in range(3):
            text, wrapped = _WRAPPED.subn(r" \1 ", text)
            text, coloured = _COLOURED.subn(r" \1\2 ", text)
            if not wrapped + coloured:
                break
        text = _SHOWN.sub("", text)
        if text.count("\\begin") == 1:
            text = _SYSTEM.sub(lambda m: m[1].replace("\\\\", ", ").replace("&", ""), text)
        text = _DISPLAY.sub("", text) if "\\\\" not in text else text
        text = _SPACES.sub(" ", text)
        for command, replacement in _spellings().commands:
            if command in text:
                text = text.replace(command, replacement)
    else:
        text = _THOUSANDS_MARKED.sub("", text)
        text = text.replace("**", "^")
    if "$" in text:
        text = _money(text)
    if "p" in text:
        text = _PERCENT.sub("%", text)
    text = _SIMPLE_BRACES.sub(r"\1\2", text)
    text = _unmarked(" ".join(text.split()))
    about = _ABOUT.match(text)
    if about:
        text = text[about.end() :]
    phrase = _PHRASE.match(text)
    if phrase:
        text = text[phrase.end() :]
    return text.rstrip(" .,;:=\\")


def squeeze(cleaned: str) -> str:
    r"""A cleaned text without what carries no meaning: two that are equal so are the same answer.

    Spaces between two digits or two letters stay, since `1 2` is not `12`.
    """
    text = _FRAC_BARE.sub(_braced, cleaned)
    return re.sub(r"(?<![0-9a-zA-Z]) | (?![0-9a-zA-Z])|(?<=\d) (?=[a-zA-Z])", "", text)


def _braced(match: re.Match[str]) -> str:
    a, b, c, d = match.groups()
    return f"\\frac{{{b if a is None else a}}}{{{d if c is None else c}}}"


def _unmarked(text: str) -> str:
    """A text without the Markdown or the quotes that stand around all of it."""
    for _ in range(3):
        match = _MARKED.fullmatch(text) if text[:1] in _MARKS else None
        if match is None:
            break
        inner: str = match["fenced"] or match["marked"] or match["quoted"] or ""
        if match["mark"] and match["mark"] in inner:
            break
        text = inner.strip()
    return text


def _money(text: str) -> str:
    r"""Drop the dollars that delimit formulas; `\$`, and one before a number alone, is money."""
    whole = _TWO_DOLLARS.fullmatch(text.strip())
    if whole:  # delimiters that were escaped
        return whole[1]
    alone = text.count("$") - text.count("\\$") == 1
    place = text.find("$")
    before = _DIGIT.match(text[place + 1 : place + 2]) or _MONEY_AFTER.fullmatch(text)
    if alone and "\\$" not in text and before:
        return text.replace("$", r"\usd ")
    return _DOLLARS.sub(lambda match: r"\usd " if len(match.group()) == 2 else "", text)


def _ascii(text: str) -> str:
    text = _ROOT.sub(lambda m: rf"\sqrt{{{m[1] or m[2]}}}" if m[1] or m[2] else r"\sqrt", text)
    text = text.translate(_spellings().characters)
    text = _POWERS.sub(lambda m: f"^{{{m[1] or ''}{''.join(_DIGIT.findall(m.group()))}}}", text)
    text = unicodedata.normalize("NFKC", text)
    text = "".join(str(unicodedata.decimal(c, c)) for c in text)  # digits of any script
    # Marks of direction and other characters that a reader does not see.
    text = _UNIT_IN_BRACKETS.sub(r" \1", text)
    return "".join(c for c in text if c.isascii() or unicodedata.category(c) not in ("Cf", "Cc"))
