"""The words by which people and models name an option: English, German, Chinese.

No gap in a pattern is unbounded, so that every search takes time linear in the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

_NOUN = (
    r"(?:(?:answer|choice|option)s?|ans|letter|solution|pick|selection|one|response|result|ergebnis"
    r"|antwort\w{0,12}|lösung\w{0,12}|auswahl|wahl|alternative)"
)
_NOT = (
    r"(?:(?:is|are|was|could|can|would|should|must|does|do)(?:n't|\s+not|\s+never)(?:\s+be)?"
    r"|cannot(?:\s+be)?|can't(?:\s+be)?|won't\s+be|(?:ist|kann|sind|lautet)\s+nicht)"
)
_PERHAPS = r"(?:(?:could|might|may|can)(?:\s+also)?(?:\s+be)?|könnten?(?:\s+auch)?|kann)"
_IS = (
    r"(?:(?:must|should|would|will|has\s+to|have\s+to|can\s+only)\s+be|is|are|was|be|remains"
    r"|becomes|ist|sind|lautet|wäre|muss|bleibt)"
)
_ZH_NOT = r"(?:不(?:应该?|可能|会|能)?(?:是|为|选)|并非)"
_ZH_IS = r"(?:应该?|就|只能|必定|一定|显然)?(?:是|为|选)"


def _lower(pattern: str) -> re.Pattern[str]:
    """A pattern for text in lower case, which takes a quarter of the time of one for any case."""
    return re.compile(rf"(?:(?<![a-z])|(?![\x00-\x7f]))(?:{pattern})", re.MULTILINE)


# The answer is …  Answer: …  答案是 …  richtig ist …
LEAD = _lower(
    rf"\b(?P<noun>{_NOUN})\b(?P<gap>[^.\n:=?!;]{{0,60}}?)"
    rf"(?:\b(?:(?P<no>{_NOT})|(?P<perhaps>{_PERHAPS})|{_IS})\b\s{{0,3}}:?|\s{{0,3}}[:=→\]]|'s\b"
    rf"|\s[-–—]\s(?=\W{{0,3}}\w\b))"
    rf"|(?:答案|选项|正确的|答)(?:项|选项|的是)?"
    rf"(?:(?P<zh_no>{_ZH_NOT})|(?P<zh_perhaps>可能(?:是|为)?|也许是)|{_ZH_IS}|[:】\]])"
    rf"|\b(?:richtig|korrekt|correct)\s+(?:ist|is)\b:?|^####|\bans\."
    rf"|\bist\s+(?:die\s+)?(?:(?:richtige|korrekte)\s+)?(?:antwort|lösung|option)\b",
)
# I choose …  which corresponds to …  选 …
PICK = _lower(
    r"\b(?:choose|chose|choosing|pick|select|selecting|go(?:ing)?\s+(?:with|for)|went\s+with"
    r"|opt\s+for|settle\s+(?:on|for)|vote\s+for|correspond(?:s|ing)?\s+to|match(?:es)?"
    r"|wähle|nehme|entscheide\s+mich\s+für|(?:is|as)\s+(?=(?:option|choice|answer)\b)|makes"
    r"|(?:answer|antwort)(?=\s{1,3}\(?[a-z1-9]\)?[.!]?\s{0,3}$)"
    r"|(?:i|we)(?:'d|'ll|\s+would|\s+will)?\s+(?:answer|say|vote|guess))\b:?"
    r"|(?<!待)选择?(?:项|答案)?:?|^[ \t>*#•-]{0,8}[✓✔✅]",
)
# so …  it must be …  it can't be …  not …  也就是 …
THUS = _lower(
    rf"\b(?:so|hence|thus|therefore|consequently|leav(?:es|ing)(?:\s+us\s+with)?|namely|rather"
    rf"|instead|actually|no(?=\s?[,:.!])|wait|but|also|daher|somit|folglich|sondern|bleibt(?:\s+nur)?)\b[,:]?"
    rf"|\b(?:it|this|that|es|das)(?:'s|\s+(?:(?P<no>{_NOT})|(?P<perhaps>{_PERHAPS})|{_IS}))(?!\w)"
    rf"|(?:故|因此|所以|而)(?:应该?)?(?:是|为|选)?[:,]?|(?P<zh_no>{_ZH_NOT}|排除)了?"
    rf"|(?P<zh_perhaps>可能是)"
    rf"|\b(?P<bare_no>not|nicht|neither|weder)\b",
)
# … is correct   … is the right one   … ist falsch   …正确
PREDICATE = _lower(
    rf"(?:\b(?:(?P<no>{_NOT})|(?P<perhaps>{_PERHAPS})|{_IS}|seems|looks)\s{{1,3}}"
    r"(?:(?:indeed|clearly|therefore|thus|definitely|also|both|all|be|(?P<de_no>nicht)|not)\s{1,3})"
    r"{0,3}(?:(?P<good>(?:(?:the|a|our|my|die)\s+)?(?:(?:only|single|most|one|best|einzige)\s+)?"
    r"(?:(?:correct|right|best|richtige?|korrekte?|appropriate|true|wahr)"
    r"(?P<noun>\s+(?:answer|option|choice|one|antwort|lösung|selection))?|answer|lösung))"
    r"(?=\s{0,3}(?:[.,;!)\n]|$|because|since|as\b|weil|denn|and\b))"
    r"|(?P<bad>incorrect|wrong|false|invalid|impossible|out|ruled\s+out|eliminated|excluded"
    r"|falsch|ausgeschlossen|unmöglich)\b)"
    r"|\b(?P<works>works|fits|holds)\b(?=\s{0,3}(?:[.,;!\n]|$))"
    r"|\b(?P<it_is>it\s+is)\b(?=\s?(?:[.!,]|$))|\b(?P<de_bad>scheide[tn]\s+aus)"
    r"|(?P<zh_bad>是?(?:错误|错|不正确|不对|不符合|有误|可以排除)的?)"
    r"|(?P<zh_good>(?:是|为)?正确(?:的|答案|选项)?|对(?=[,。;.]|$)|符合题意))",
)
BOX = re.compile(r"⟦[^⟦⟧]*⟧(?:[\s,;&]{0,5}(?:and|or|/)?\s{0,3}⟦[^⟦⟧]*⟧){0,12}")
# What stands just before a statement and takes it back: "do not" choose, "if the" answer is.
DENIED = re.compile(
    r"(?:\b(?:not|never|neither|none\s+of|cannot|weder|nicht)|n't|不|不能|不应该?|不要|排除(?:了|掉)?)\s{0,3}⟦?$",
    re.IGNORECASE,
)
VOID = re.compile(
    r"\b(?:if|unless|suppose|supposing|assum(?:e|ing)|whether|wenn|falls|doubt"
    r"|(?:\w{1,9}n't|not)\s+(?:think|believe|say|agree))(?:\s+(?:that|if|whether))?"
    r"(?:\s+(?:the|my|our|i|we|you|die))?(?:\s+(?:correct|right|final|richtige))?\s{0,3}$"
    r"|\b(?:thought|guessed|at\s+first|initially|dachte)\b[^.,;\n]{0,30}$|\banything\s{0,3}$|(?:如果|假设|若)$",
    re.IGNORECASE,
)
FILLER = re.compile(
    r"(?:[\s:\"'“”«»„*=>→⟦,]|(?:the|option|choice|letter|answer|alternative|clearly|then|thus"
    r"|therefore|indeed|definitely|probably|likely|most|simply|just|both|only|be|in|case|i|we"
    r"|have|would|say|think|should|must|correct|right|one|is|ist|die|antwort|also|eindeutig|wohl"
    r"|daher|somit|nur|auf|für)\b(?![.)\]])|选项|答案|是|为|选|应|该){0,24}",
    re.IGNORECASE,
)
NEGATION = re.compile(r"(?:not|nicht|never|neither|weder)\b\s{0,3}|不(?:是|选|为|应)\s?", re.I)
WAVER = re.compile(
    r"(?:either|maybe|perhaps|possibly|entweder|vielleicht|möglicherweise)\b\s?|可能是?|也许是?",
    re.IGNORECASE,
)
_AND = r"\s{0,3}(?:,\s{0,3}(?:and|und)?|、|&|;|\b(?:and|und|nor|noch|sowie|as well as)\b|和|与|及)"
_OR = r"\s{0,3},?\s{0,3}(?:/|\b(?:or|oder)\b|或者?|还是)"
JOIN = re.compile(
    rf"(?:(?P<or>{_OR})|{_AND})\s{{0,3}}(?:(?:options?|choice|answer)\s)?[⟦\"']?", re.IGNORECASE
)
# After a further label: it begins a statement of its own ("the answer is C, A is wrong").
SUBJECT = re.compile(
    r"\s{1,3}(?:is|are|was|were|being|has|have|does|do|would|can|cannot|can't|isn't|ist|sind)\b"
    r"|\s?(?:选项|项)?(?:是|错|不|正确)",
    re.IGNORECASE,
)
# What may follow a capital A or I that is a label; before any other word it is English.
AFTER_ARTICLE = re.compile(
    r"\s{1,3}(?:is|are|was|because|since|as|and|or|for|which|but|not|due|rather|instead|nor|here"
    r"|from|ist|und|oder|weil|da|denn|sind|noch|wrong|correct|incorrect|seems|can|cannot|must"
    r"|it|can't|isn't|has|scheidet|sein)\b|\s{0,3}[^\sa-zA-Zà-ɏ]|\s{0,3}$|\s{0,3}\n"
)
END = re.compile(
    r"[\s)\]}⟧\"'”’*]{0,6}(?:[.,;!。:]|$|\n|(?:because|since|as|due|weil|denn|da|and\s+not|sein)\b"
    r"|,?因为)|\s{1,3}[(–—-]|\s{1,3}(?:the|die)\s+(?:correct|right|best|richtige|korrekte)\b",
    re.IGNORECASE,
)
# After a label: it is asked about, or the answer only on a condition.
OPEN = re.compile(
    r"[\s)\]}⟧\"'”’]{0,6}(?:\?|(?:only\s+)?(?:if(?!\s+i\b)|unless|wenn|falls)\b)", re.IGNORECASE
)
# A change of mind: what is said in passing after it outweighs an answer stated before it.
CUE = re.compile(
    r"\b(?:wait|actually|correction|sorry|oops|hmm+|however|instead|scratch|mistake|no|moment|halt"
    r"|doch|second\s+thought)\b|不对|等等|更正",
    re.IGNORECASE,
)
RETRACTED = re.compile(
    r"\b(?:wait|actually|no|hmm+|oops|sorry|hold\s+on)\b[^.\n]{0,30}?"
    r"\b(?:that|this|it)(?:'s|\s+is|\s+was)\s+(?:wrong|incorrect|not\s+(?:right|correct)|a\s+mistake)",
    re.IGNORECASE,
)
# A prompt that asks for the exception: there "A is wrong" is a reason to choose A.
EXCEPTION = re.compile(
    r"\b(?:which|what)\b[^.?\n]{0,120}\b(?:not|incorrect|false|wrong|least|untrue)\b|\bexcept\b"
    r"|\bNOT\b|不正确|错误的|不属于|不是|不符合|\bwelche\w?\b[^.?\n]{0,120}\b(?:nicht|falsch)\b",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """The patterns that depend on which labels there are.

    `atom` is a label, bare or in brackets; `subject` a list of labels at a text's end; `row` a
    line that judges one option ("- A. Paris: incorrect").
    """

    atom: re.Pattern[str]
    subject: re.Pattern[str]
    row: re.Pattern[str]


@cache
def grammar(labels: str) -> Grammar:
    """The patterns for labels given as one string, such as `ABCD` or `12345`."""
    upper, either = f"[{labels}]", f"[{labels}{labels.lower()}]"
    before, after = r"(?<![A-Za-zÀ-ɏ0-9_\\])(?<!\d[.,])", r"(?![A-Za-zÀ-ɏ0-9_\\]|'[a-z])"
    single = (
        rf"(?:[(\[⟦]\s?{either}\s?[.:]?[)\]⟧]{{1,2}}"
        rf"|{before}{upper}{after}(?!\s?[\^+%=<>]|-\w|[.,]\d)\)?"
        rf"|{before}{either}(?:\)|(?=[.!。]?\s{{0,3}}(?:$|\n))))"
    )
    several = "" if labels[0].isdigit() else rf"|{before}{upper}{{2,10}}{after}"
    noun = r"(?i:\b(?:options?|choices?|answers?|antwort\w{0,3}|lösung|alternative)\s{1,3}|选项)?"
    join = JOIN.pattern.replace("?P<or>", "?:")
    return Grammar(
        atom=re.compile(rf"(?:{single}{several})"),
        subject=re.compile(
            rf"{noun}(?P<list>{single}(?:(?i:{join}){noun}{single}){{0,9}})(?:选项|项)?"
            r"(?:\s?\([^()\n]{1,80}\)|[:,]\s[^.,;\n]{1,60},)?[\s⟧]{0,3}$"
        ),
        row=re.compile(
            rf"^[ \t>*#•-]{{0,8}}(?:(?i:option|选项)\s?)?(?P<label>{single})"
            r"(?:(?:[^\n]{0,100}?[.:(–—-])?\s{0,3}(?i:(?P<good>(?:correct|right|true|richtig)\b"
            r"(?=\s{0,3}(?:[.,;!)\n]|$|because))|正确)"
            r"|(?P<bad>(?:incorrect|wrong|false|not\s+correct|falsch)\b|错误))"
            r"|[^\n]{0,100}?(?:(?P<tick>[✓✔✅])|(?P<cross>[✗✘❌])))",
            re.MULTILINE,
        ),
    )
