"""Patterns for what a text says of options, built of the phrases of its languages.

No gap in a pattern is unbounded, so that every search takes time linear in the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from filter.phrases import Languages, phrases, spaced, without_copula

BOX = re.compile(r"⟦[^⟦⟧]*⟧(?:[\s,;&]{0,5}(?:and|or|/)?\s{0,3}⟦[^⟦⟧]*⟧){0,12}")
# After a label: it is asked about, or the answer only on a condition.
_ASKED = r"[\s)\]}⟧\"'”’]{0,6}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """Patterns for a text in some languages, with some labels.

    Of statements, to be searched for in lower case (a group's name may have a number):
      lead       "the answer is", before a label; groups `noun`, `gap`, `deny`, `perhaps`
      pick       "I choose", before a label
      thus       "so", "it must be", "not", before a label; groups `deny`, `perhaps`
      predicate  "is correct", after a label; groups `deny`, `perhaps`, `noun`, `bad`

    Of labels: `atom` is one, bare or in brackets; `subject` a list of them at a text's end; `row`
    a line that judges one ("- A. Paris: incorrect").

    Around a label: `option` ("the option"), `filler`, `negation` and `waver` before it; after it
    `join` ("and"), `ends` (of a statement), `after` (forms of "to be", at a line's end), `open` (a
    question, a condition), `denies` ("is not it"); `is_subject` where it begins a statement of its
    own, `article` where a bare `A` or `I` is a label and no word. Before a statement: `denied` ("do
    not" choose), `void` ("if" the answer is). In a line: `doubt` (a
    denial, an alternative, a condition). Between two statements: `cue` (a change of mind) and
    `retracted` ("wait, that is wrong").
    """

    lead: re.Pattern[str]
    pick: re.Pattern[str]
    thus: re.Pattern[str]
    predicate: re.Pattern[str]
    atom: re.Pattern[str]
    subject: re.Pattern[str]
    row: re.Pattern[str]
    option: re.Pattern[str]
    filler: re.Pattern[str]
    negation: re.Pattern[str]
    waver: re.Pattern[str]
    join: re.Pattern[str]
    ends: re.Pattern[str]
    after: re.Pattern[str]
    open: re.Pattern[str]
    denies: re.Pattern[str]
    is_subject: re.Pattern[str]
    article: re.Pattern[str]
    denied: re.Pattern[str]
    void: re.Pattern[str]
    doubt: re.Pattern[str]
    cue: re.Pattern[str]
    retracted: re.Pattern[str]


@lru_cache(maxsize=512)
def grammar(labels: str, languages: Languages) -> Grammar:
    """The patterns for labels given as one string, such as `ABCD` or `12345`."""

    def lower(pattern: str) -> re.Pattern[str]:
        # For text in lower case, which takes a quarter of the time of a pattern for any case.
        begin = r"(?<!\w)" if spaced(languages) else ""
        return re.compile(f"{begin}(?:{pattern})", re.MULTILINE)

    def said(slot: str) -> str:
        return phrases(slot, languages)

    def attached(slot: str) -> str:
        return phrases(slot, languages, whole=False)

    answer, noun = said("answer"), rf"(?:{said('answer')}|{said('option')})"
    is_, no, perhaps, link = said("is"), said("not"), said("maybe"), said("link")
    right, wrong, after = said("right"), said("wrong"), attached("after")
    negation, particle, denies = said("negation"), attached("particle"), attached("denies")
    join = rf"\s{{0,3}},?\s{{0,3}}(?:/|{said('or')})"
    join = rf"(?:(?P<or>{join})|\s{{0,3}}(?:,\s{{0,3}}{said('and')}?|、|&|;|{said('and')}))"
    join += rf"\s{{0,3}}(?:{noun}\s{{1,3}})?[⟦\"']?"
    label, several = _label(labels)
    stop = rf"(?=\s{{0,3}}(?:[.,;!)。,؟।\n]|$|{said('because')}|{said('and')}|{after}))"
    bare = without_copula(languages)
    good = (
        rf"(?:{right}(?P<noun>\s{{1,3}}{noun})?|(?P<noun2>{answer}(?:\s{{1,3}}{right})?"
        rf"|{noun}\s{{1,3}}{right})){stop}"
    )
    bare_right, bare_wrong = phrases("right", bare), phrases("wrong", bare)
    return Grammar(
        lead=lower(
            rf"(?P<noun>{noun})(?P<gap>[^.\n:=?!;。]{{0,60}}?)"
            rf"(?:(?:(?P<deny>{no})|(?P<perhaps>{perhaps})|{is_})\s{{0,3}}:?|\s{{0,3}}[:=→\]】]|'s\b"
            rf"|\s[-–—]\s(?=\W{{0,3}}\w\b))|^####|\bans\."
        ),
        pick=lower(
            rf"(?:{said('pick')}|{is_}\s{{1,3}}(?={noun})|as\s{{1,3}}(?=(?:option|choice|answer)\b)"
            rf"|(?:{answer}|{right}\s{{1,3}}{noun}|{answer}\s{{1,3}}{noun})"
            rf"(?=\s{{1,3}}\W{{0,2}}[{labels.lower()}]\W{{0,2}}(?:$|{after}))"
            rf"|{phrases('answer', bare)}(?=\s{{1,3}}\W{{0,2}}[{labels.lower()}][,;.:)])):?"
            rf"|(?:{right})\s{{1,3}}{is_}:?|^[ \t>*#•-]{{0,8}}[✓✔✅]"
        ),
        thus=lower(
            rf"(?:{said('so')}|{said('but')}|no(?=\s?[,:.!]))[,:]?"
            rf"|{said('it')}(?:'s|\s{{0,3}}(?:(?P<deny>{no})|(?P<perhaps>{perhaps})|{is_}))(?!\w)"
            rf"|(?P<deny2>{no}|{negation})|(?P<perhaps2>{perhaps})"
        ),
        predicate=lower(
            rf"(?:(?P<deny>{no})|(?P<perhaps>{perhaps})|{is_}|seems|looks)\s{{0,3}}"
            rf"(?:(?:{link}|(?P<deny2>{negation}))\s{{0,3}}){{0,3}}(?:{good}|(?P<bad>{wrong}))"
            rf"|(?P<deny3>{negation}\s{{0,3}})?(?:{bare_right}(?!\s{{0,3}}{denies})(?:\s{{1,3}}{noun})?{stop}"
            rf"|(?P<bad2>{bare_wrong}|{bare_right}\s{{0,3}}{denies}))"
            rf"|\b(?:works|fits|holds)\b(?=\s{{0,3}}(?:[.,;!\n]|$))"
            rf"|\b(?P<it_is>it\s+is)\b(?=\s?(?:[.!,]|$))|(?P<bad3>{said('out')})"
        ),
        atom=re.compile(label + several),
        subject=re.compile(
            rf"(?i:{noun}\s{{0,3}})?(?P<list>{label}(?:(?i:{join.replace('?P<or>', '?:')}){label})"
            rf"{{0,9}})(?:(?<=\))\s(?:(?!\b[{labels}]\b)[^.,;()\n]){{1,60}})?"
            rf"(?:(?i:\s{{0,3}}{noun})(?:{particle})?|(?:{particle})?"
            r"(?:\s?\([^()\n]{1,80}\)|[:,]\s[^.,;\n]{1,60},)?)[\s⟧–—-]{0,3}$"
        ),
        row=re.compile(
            rf"^[ \t>*#•-]{{0,8}}(?i:{noun}\s?)?(?P<label>{label})"
            rf"(?:(?:[^\n]{{0,100}}?[.:(–—-])?\s{{0,3}}(?:(?P<bad>(?i:not\s{{1,3}}correct|{wrong}))"
            rf"|(?P<good>(?i:{right})(?=\s{{0,3}}(?:[.,;!)\n。]|$|because))))"
            r"|[^\n]{0,100}?(?:(?P<tick>[✓✔✅])|(?P<cross>[✗✘❌])))",
            re.MULTILINE,
        ),
        option=_any_case(rf"(?:(?:{link}\s{{1,3}}|l'){{0,2}}{noun}\s{{1,3}})?"),
        filler=_any_case(
            rf"(?:[\s:\"'“”«»„「『*=>→⟦,，、：]|(?:{link}|{noun}|{is_}|{right}"
            r"|(?<!\w)(?:then|probably|likely|simply|just|in|case|have|would|say|think|should|must"
            r"|i|we)\b)(?![.)\]])"
            # the labels A, I and BE are no words
            rf"(?<!(?<!\w)(?-i:[A-Z]))(?<!(?<!\w)(?-i:[{labels}]{{2}}))"
            rf"(?!(?<=(?<!\w)\w)\s{{0,3}}(?:$|\n(?!\s{{0,3}}\W{{0,3}}[{labels}]\b)))){{0,24}}"
        ),
        negation=_any_case(rf"(?:{no}|{negation})\s{{0,3}}"),
        waver=_any_case(rf"{said('either')}\s?"),
        join=_any_case(join),
        ends=_any_case(
            rf"[\s)\]}}⟧\"'”’」』*]{{0,6}}(?:[.,;!。:،।]|$|\n|{said('because')}|and\s+not\b|{after}|"
            rf"{negation})|,?因为|\s{{1,3}}[(–—-]|\s{{1,3}}(?:{link}\s{{1,3}})?{right}"
        ),
        after=_any_case(rf"\s?{after}\W*$"),
        open=_any_case(rf"{_ASKED}(?:[?？؟]|(?:only\s+)?(?!if\s+i\b){said('if')})"),
        denies=_any_case(rf"[\s)\]}}⟧]{{0,3}}{particle}?\s{{0,3}}{denies}"),
        is_subject=_any_case(
            rf"\s{{1,3}}(?:{is_}|{no}|{perhaps}|(?:has|have|does|do|would|being)\b)"
            rf"|\s?(?:{particle})?\s{{0,3}}(?:{bare_right}|{bare_wrong}|是|不)"
        ),
        article=_any_case(
            rf"\s{{1,3}}(?:{is_}|{no}|{perhaps}|{said('because')}|{said('and')}|{said('or')}"
            rf"|{negation}|{said('but')}|{wrong}|{right}|(?:for|which|here|from|seems|has)\b)"
            rf"|\s{{0,3}}{after}"
            r"|\s{0,3}[^\sa-zA-ZÀ-ɏЀ-ӿͰ-Ͽऀ-ॣ؀-ۿ]|\s{0,3}$|\s{0,3}\n"
        ),
        denied=_any_case(rf"(?:{negation}|none\s+of|{no}|n't)\s{{0,3}}⟦?$"),
        void=_any_case(
            rf"{said('if')}(?:\s{{1,3}}(?:that|if|whether|{link}|{right}|i|we|you|final))*\s{{0,3}}$"
            rf"|{said('guess')}[^.,;\n]{{0,30}}$|\banything\s{{0,3}}$"
        ),
        doubt=_any_case(
            rf"{no}|{negation}|{said('or')}|{said('if')}|{perhaps}|{wrong}|{denies}|n't"
            r"|\b(?:would|were)\b"
        ),
        cue=_any_case(said("wait")),
        retracted=_any_case(said("retract")),
    )


def _label(labels: str) -> tuple[str, str]:
    """Patterns of one label, bare or in brackets, and of another alternative: `AC`."""
    upper, either = f"[{labels}]", f"[{labels}{labels.lower()}]"
    before = r"(?<![A-Za-zÀ-ɏ0-9_\\])(?<!\d[.,])"
    after = r"(?![A-Za-zÀ-ɏ0-9_\\]|'[a-z](?![ıiuü]r)(?![ıiuü] ))"
    single = (
        rf"(?:[(\[⟦]\s?{either}\s?[.:]?[)\]⟧]{{1,2}}"
        rf"|{before}{upper}{after}(?!\s?[\^+%=<>]|-\w|[.,]\d)\)?"
        rf"|{before}{either}(?:\)|(?=[.!。]?\s{{0,3}}(?:$|\n))))"
    )
    return single, "" if labels[0].isdigit() else rf"|{before}{upper}{{2,10}}{after}"


def _any_case(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)
