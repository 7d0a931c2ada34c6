"""Find what is private in a text: e-mail addresses, phone numbers, IBANs, and keys.

Each finder yields spans, (begin, end) in characters. Problems are full of numbers: what is no
address, number or key for certain is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

PrivateKind = Literal["email", "phone", "iban", "key"]
Span = tuple[int, int]
Finder = Callable[[str], Iterator[Span]]

# Letters of the scripts that put spaces between words: in the others an address follows the word
# before it at once, and must not swallow it.
_L = "A-Za-zÀ-ɏͰ-ϿЀ-ӿ"
_EMAIL = re.compile(
    rf"(?<![{_L}0-9_.+-])[{_L}0-9_][{_L}0-9_.%+'&/=~-]*@"
    rf"(?![0-9.]+-)(?:[{_L}0-9][{_L}0-9-]*\.)+(?:xn--[a-z0-9-]+|[{_L}]{{2,}})(?![{_L}0-9])"
)
# In `A@B.mean()` a product of matrices looks like an address.
_METHOD = re.compile(r"\.[a-z_]{3,}\(")
_GENERIC = re.compile(r"\.(?:com|org|net|edu|gov|info|int|mil)\(")


def emails(text: str) -> Iterator[Span]:
    """E-mail addresses."""
    if "@" not in text:
        return
    for found in _EMAIL.finditer(text):
        last = text[found.start() : found.end() + 1].rpartition(".")[2]
        if not _METHOD.fullmatch(f".{last}") or _GENERIC.fullmatch(f".{last}"):
            yield found.span()


# A sign and six digits, the fewest of any country, without what only formulas have between them:
# looking closer takes a hundred times as long.
_INTERNATIONAL = re.compile(r"[+＋][ (\u00a0]{0,2}[0-9](?:[^\d\n+=,;:$^_{}\\*]{0,4}\d){5}")
_SEPARATED = re.compile(r"(?:[0-9][ ()./\u00a0-]{0,3}){8}[0-9]")
# What stands before the sign of a sum: a number, a power, a variable of one letter.
_DECIMAL = re.compile(r"[0-9][.,]")
_OPERAND = re.compile(r"(?:[0-9}$^_]|(?<![^\W\d_])[^\W\d_])\s*$")


def phones(countries: Sequence[str] = ()) -> Finder:
    """A finder of phone numbers in international form that are valid (libphonenumber), and of
    those in national form of some countries (as "DE") where they have nine digits or more and
    begin with 0 or are written in groups.
    """

    def find(text: str) -> Iterator[Span]:
        if _INTERNATIONAL.search(text):
            for begin, end in _matches(text, None):
                if not _OPERAND.search(text, max(0, begin - 8), begin):
                    yield begin, end
        if countries and _SEPARATED.search(text):
            for country in countries:
                for begin, end in _matches(text, country):
                    if _looks_national(text[begin:end], text[max(0, begin - 2) : begin]):
                        yield begin, end

    return find


def _looks_national(number: str, before: str) -> bool:
    decimal = number.startswith(("0.", "0,")) or _DECIMAL.fullmatch(before)
    in_form = number.startswith("0") or not number.isdigit()
    return in_form and not decimal and sum(c.isdigit() for c in number) >= 9


def _matches(text: str, country: str | None) -> Iterator[Span]:
    from phonenumbers import Leniency, PhoneNumberMatcher

    matcher = PhoneNumberMatcher(text, country, leniency=Leniency.VALID, max_tries=len(text))
    for match in matcher:
        before = len(match.raw_string) - len(match.raw_string.lstrip("[（［ "))
        yield match.start + before, match.end


_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?:[ \u00a0-]?[A-Za-z0-9]){11,30}")


def ibans(text: str) -> Iterator[Span]:
    """IBANs of a known country, of its length, with a right checksum (ISO 13616)."""
    begin = 0
    while found := _IBAN.search(text, begin):
        end = _iban_end(found)
        begin = end or found.start() + 4
        if end:
            yield found.start(), end


def _iban_end(found: re.Match[str]) -> int | None:
    """Where an IBAN ends that begins with a match, which also takes in the words after it."""
    from stdnum import iban

    text = found.string
    for end in range(found.end(), found.start() + 14, -1):
        whole = text[end - 1].isalnum() and not text[end : end + 1].isalnum()
        if whole and iban.is_valid(text[found.start() : end], check_country=False):
            return end
    return None


# Tokens that a provider marks by how they begin.
_PREFIXES = (
    "sk-", "gsk_", "xai-", "hf_", "nvapi-", "e2b_", "r8_", "tgp_v1_", "fw_", "pplx-", "tvly-",
    "sk_live_", "sk_test_", "rk_live_", "rk_test_", "whsec_", "ghp_", "gho_", "ghu_", "ghs_",
    "ghr_", "github_pat_", "glpat-", "gldt-", "npm_", "pypi-", "dckr_pat_", "dop_v1_", "shpat_",
    "lin_api_", "ntn_", "xoxa-", "xoxb-", "xoxp-", "xoxr-", "xoxs-", "xoxe-", "xapp-", "AIza",
    "ya29.", "SG.", "sq0csp-", "AGE-SECRET-KEY-1",
)  # fmt: skip
# Random text: a long run without a hyphen, and a digit.
_RANDOM = r"(?=[\w.-]*[A-Za-z0-9]{12})(?=[\w.-]*[0-9])(?=[\w.-]*[A-Za-z])"
# Expressions, each with what of it stands in small letters in any text that holds such a key: most
# texts hold none of that, and to look for it takes no time.
_KEYS = tuple(
    (marks, re.compile(pattern))
    for marks, pattern in (
        (
            ("-----begin",),
            r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
            r"(?s:.{0,20000}?-----END (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
            r"|[A-Za-z0-9+/=\s\\]{64,})",
        ),
        (
            tuple(prefix.lower() for prefix in _PREFIXES),
            rf"(?<![\w-])(?:{'|'.join(map(re.escape, _PREFIXES))}){_RANDOM}[\w.-]{{15,}}[\w-]",
        ),
        (
            ("akia", "asia", "abia", "acca"),
            r"(?<![A-Za-z0-9])(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])",
        ),
        (("eyj",), r"(?<![\w-])eyJ[\w-]{8,}(?:\.[\w-]*){2,4}"),
        ((":aa",), r"(?<![\w:])[0-9]{8,10}:AA[\w-]{32,34}(?![\w-])"),  # a Telegram bot's
        (
            ("bearer", "basic"),
            r"(?i:\b(?:bearer|basic)\s+)(?P<key>(?=[\w.~+/-]*[0-9])[\w.~+/-]{16,}={0,2})",
        ),
        (
            ("key", "secret", "token", "passw", "pwd"),
            r"(?i:(?:api[_-]?key|access[_-]?key|secret|token|passw(?:or)?d|pwd)[\w-]{0,20}"
            r"[\"']?\s{0,3}[:=]\s{0,3}[\"']?)"
            r"(?P<key>(?=[\w/+.~-]*[0-9])(?=[\w/+.~-]*[A-Za-z])[\w/+.~-]{16,}={0,2})(?![\w(\[])",
        ),
        (
            ("://",),
            r"(?<![\w+.-])[a-z][a-z0-9+.-]{1,20}://(?P<key>[^\s/@:\"'<>]*:[^\s/@\"'<>]+)@",
        ),
    )
)


def keys(text: str) -> Iterator[Span]:
    """API keys and tokens by their providers' marks, JSON web tokens, private key blocks, and
    passwords in URLs and in assignments, where they look random.
    """
    small = text.lower()
    for marks, pattern in _KEYS:
        if any(mark in small for mark in marks):
            for found in pattern.finditer(text):
                yield found.span("key" if "key" in pattern.groupindex else 0)


def finder(kind: PrivateKind, countries: Sequence[str]) -> Finder:
    """The finder of a kind."""
    finders: dict[PrivateKind, Finder] = {
        "email": emails,
        "phone": phones(countries),
        "iban": ibans,
        "key": keys,
    }
    return finders[kind]
