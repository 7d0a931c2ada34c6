r"""One spelling for what people write in several: unicode, spacing, wrappers, `\dfrac`."""

from __future__ import annotations

import re
import unicodedata

# What NFKC would change beyond recognition (² to 2), or leave as it is.
_CHARACTERS = {
    **{ord(c): f"^{{{d}}}" for c, d in zip("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789", strict=True)},
    **{ord(c): f"_{{{d}}}" for c, d in zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True)},
    **{
        ord(c): rf"\frac{{{a}}}{{{b}}}"
        for c, (a, b) in {
            "½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅕": (1, 5),
            "⅖": (2, 5), "⅗": (3, 5), "⅘": (4, 5), "⅙": (1, 6), "⅚": (5, 6), "⅐": (1, 7),
            "⅛": (1, 8), "⅜": (3, 8), "⅝": (5, 8), "⅞": (7, 8), "⅑": (1, 9), "⅒": (1, 10),
        }.items()
    },
    **{ord(c): "-" for c in "−–—‐‑‒―﹣-"},
    **{ord(c): r"\cdot " for c in "·⋅∙•×✕"},
    **{ord(c): "/" for c in "÷∕⁄／"},
    **{ord(c): rf"\{name} " for c, name in {
        "π": "pi", "∞": "infty", "±": "pm", "∓": "mp", "≤": "le", "⩽": "le", "≥": "ge", "⩾": "ge",
        "≠": "ne", "≈": "approx", "∪": "cup", "∩": "cap", "∈": "in", "∅": "emptyset",
        "⌀": "emptyset", "α": "alpha", "β": "beta", "γ": "gamma", "θ": "theta", "λ": "lambda",
        "φ": "phi", "μ": "mu", "σ": "sigma", "ω": "omega", "∠": "angle", "△": "triangle",
        "→": "to", "∶": ":",
    }.items()},
    ord("∛"): r"\sqrt[3]",
    ord("⁻"): "^-",
    ord("°"): r"^\circ ",
    ord("º"): r"^\circ ",
    ord("℃"): r"^\circ C",
    ord("′"): "'",
    ord("’"): "'",
    ord("，"): ", ",
    ord("。"): ".",
    ord("€"): r"\euro ",
    ord("£"): r"\pound ",
    ord("¥"): r"\yen ",
    ord("￥"): r"\yen ",
    ord("₹"): r"\rupee ",
    ord("₽"): r"\ruble ",
    ord("₩"): r"\won ",
    ord("₺"): r"\lira ",
    ord("₫"): r"\dong ",
}  # fmt: skip
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
_COMMANDS = (
    ("\\leqslant", "\\le "), ("\\geqslant", "\\ge "), ("\\leq", "\\le"), ("\\geq", "\\ge"),
    ("\\neq", "\\ne"), ("\\times", "\\cdot "), ("\\ast", "\\cdot "), ("\\degrees", "^\\circ "),
    ("\\degree", "^\\circ "), ("\\deg", "^\\circ "), ("\\varnothing", "\\emptyset "),
    ("\\div", "/"), ("\\%", "%"), ("\\lbrace", "\\{"), ("\\rbrace", "\\}"), ("\\lbrack", "["),
    ("\\rbrack", "]"), ("\\colon", ":"), ("\\mid", "|"), ("\\lvert", "|"),
    ("\\rvert", "|"), ("\\vert", "|"), ("\\dots", "\\ldots"),
    ("^{\\circ}", "^\\circ "), ("^{^\\circ}", "^\\circ "),
    ("\\overline{", "\\bar{"), ("\\dot{", "\\bar{"), ("\\lt", "<"), ("\\gt", ">"), ("**", "^"),
)  # fmt: skip


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
        for command, replacement in _COMMANDS:
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
    text = text.translate(_CHARACTERS)
    text = _POWERS.sub(lambda m: f"^{{{m[1] or ''}{''.join(_DIGIT.findall(m.group()))}}}", text)
    text = unicodedata.normalize("NFKC", text)
    text = "".join(str(unicodedata.decimal(c, c)) for c in text)  # digits of any script
    # Marks of direction and other characters that a reader does not see.
    text = _UNIT_IN_BRACKETS.sub(r" \1", text)
    return "".join(c for c in text if c.isascii() or unicodedata.category(c) not in ("Cf", "Cc"))
