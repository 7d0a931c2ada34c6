"""Find out a chat template's contract by trying it, so that any student can be trained with the
template that it comes with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import jinja2

from finetune.multimodal import LISTS_OF_PARTS
from tracestill.recipe.contract import CLOSES, OPENS, Contract
from tracestill.recipe.contract_keys import Think
from tracestill.records.tags import PAIRS
from tracestill.records.tokenizers import template_fault

# Words that no template writes itself, and that no template changes.
_SYSTEM, _ASKED, _REPLIED, _AGAIN, _THOUGHT = (
    "Sysword", "Askedword", "Repliedword", "Againword", "Thoughtword",
)  # fmt: skip
_SWITCHES = ("enable_thinking", "thinking")
_DAY = date(2024, 7, 26)  # on which Llama's own templates fall back
_OTHER_DAY = date(2001, 2, 3)
_CLOCK = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")
_FIELDS = ("reasoning_content", "reasoning", "thinking")
# gpt-oss's are no tags around a text: they end and begin messages.
_PAIRS = tuple(pair for pair in PAIRS if "<|channel|>" not in pair[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """A template's contract, the template that keeps it (a date frozen, thinking on or off where
    nothing is said), and what a user should know of that.
    """

    contract: Contract
    template: str
    notes: list[str]


def probe(
    tokenizer: Any, template: str, said: Mapping[str, Any], endings: Sequence[str] = ()
) -> Probed:
    """Find out the contract of a template.

    `said` are the keys of the contract that the recipe sets: they are taken as they are. `endings`
    are the tokens with which the model's generation_config ends a generation.

    Raises:
        ValueError: the template can't be rendered, does not show what the user says, or thinking
            can't be turned on; one line with the fix.

    """
    trial = _Trial(tokenizer, template)
    trial.take_text()
    day = date.fromisoformat(said["date"]) if "date" in said else _DAY
    printed = trial.freeze(day)
    plain = said.get("think") == "none"
    tags = _tags(trial)
    switch = said.get("switch") or trial.switch()
    trial.turn(switch, thinks=not plain, tags=tags)
    prompt = trial.prompt()
    if not plain and _closed(prompt, tags):
        raise ValueError(
            f"finetune.template: the prompt ends with a closed think block, {prompt[-30:]!r}: the "
            "student would learn to open a second one; set finetune.think to none to train on "
            "answers alone, or name a template whose prompt lets it think"
        )
    found: dict[str, Any] = {
        **_thinking(trial, prompt, tags, plain=plain),
        "stop": _stop(trial, prompt, said),
        "bos": bool(tokenizer.bos_token) and prompt.startswith(tokenizer.bos_token),
        "system": _SYSTEM in (trial.text(_system(), _user(_ASKED)) or ""),
        "past_reasoning": any(_THOUGHT in text for text in _pasts(trial, tags)),
        "switch": switch,
        "date": day.isoformat() if printed else None,
    }
    stop = said.get("stop", found["stop"])
    others = [tokenizer.eos_token, *endings]
    found["eos"] = [one for one in dict.fromkeys(filter(None, others)) if one != stop]
    return Probed(
        contract=Contract(**{**found, **said}), template=trial.template, notes=trial.notes
    )


@dataclass(slots=True)
class _Trial:
    """A template that is tried, and changed where that is needed."""

    tokenizer: Any
    template: str
    notes: list[str] = field(default_factory=list)

    def render(
        self,
        *messages: dict[str, str],
        template: str | None = None,
        begun: bool = True,
        **told: bool,
    ) -> str:
        """A chat as text, with a generation prompt if `begun`."""
        text: str = self.tokenizer.apply_chat_template(
            list(messages), chat_template=template or self.template, tokenize=False,
            add_generation_prompt=begun, **told,
        )  # fmt: skip
        return text

    def text(self, *messages: dict[str, str], begun: bool = True) -> str | None:
        """A chat as text; None if the template refuses it."""
        try:
            return self.render(*messages, begun=begun)
        except (jinja2.TemplateError, TypeError):
            return None

    def prompt(self, template: str | None = None, told: Mapping[str, bool] | None = None) -> str:
        """The prompt of one question; the template is `told` further variables."""
        try:
            text = self.render(_user(_ASKED), template=template, **(told or {}))
        except (jinja2.TemplateError, TypeError) as error:
            raise ValueError(f"finetune.template: {template_fault(error)}") from error
        if _ASKED not in text:
            raise ValueError(
                "finetune.template: it leaves out what the user says; name a shipped template, or "
                "a file"
            )
        return text

    def take_text(self) -> None:
        """Let a template that reads lists of parts only, as of models that see, read text too."""
        if _ASKED in (self.text(_user(_ASKED)) or ""):
            return
        changed = LISTS_OF_PARTS + self.template
        if _ASKED in (_Trial(self.tokenizer, changed).text(_user(_ASKED)) or ""):
            self.template = changed
            self.notes.append(
                "the template reads lists of parts only (text, image): a line before it makes such "
                "a list of plain text"
            )

    def freeze(self, day: date) -> bool:
        """Let the template print one day for ever, if it prints today's; whether it does."""
        if not _CLOCK.search(self.template):
            if "strftime_now" in re.sub(r"strftime_now\s+is\s", "", self.template):
                self.notes.append(
                    "the template may print today's date, in a way that can't be frozen: prompts "
                    "may differ from day to day"
                )
            return False
        fixed, other = _frozen(self.template, day), _frozen(self.template, _OTHER_DAY)
        chats = [(_user(_ASKED),), (_system(), _user(_ASKED))]
        self.prompt()
        texts = [
            [_Trial(self.tokenizer, one).text(*chat) for chat in chats] for one in (fixed, other)
        ]
        if texts[0] == texts[1]:
            return False
        self.template = fixed
        self.notes.append(
            f"the template prints today's date: it is {day} in every prompt from now on, else each "
            "day's prompts would be others than the trained ones; finetune.contract.date sets "
            "another day"
        )
        return True

    def switch(self) -> str | None:
        """The variable that turns thinking on and off."""
        for name in _SWITCHES:
            if re.search(rf"\b{name}\b", self.template):
                on, off = (self.prompt(told={name: value}) for value in (True, False))
                if on != off:
                    return name
        return None

    def turn(self, switch: str | None, *, thinks: bool, tags: tuple[str, str]) -> None:
        """Turn thinking on or off for prompts that do not say."""
        if switch is None:
            return
        wanted = self.prompt(told={switch: thinks})
        if self.prompt() == wanted:
            return
        value = str(thinks).lower()
        changed = (
            f"{{% if {switch} is not defined %}}{{% set {switch} = {value} %}}{{% endif %}}"
            + self.template
        )
        if self.prompt(changed) != wanted:
            raise ValueError(
                f"finetune.template: its {switch} can't be set to {value} for good; name a "
                "template whose prompt does so"
            )
        self.template = changed
        self.notes.append(
            f"where nothing is said the template has {switch} {'off' if thinks else 'on'}; the "
            f"student is trained and saved with it {'on' if thinks else 'off'}"
        )


def _frozen(template: str, day: date) -> str:
    return _CLOCK.sub(lambda call: json.dumps(day.strftime(call[2]), ensure_ascii=False), template)


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _system() -> dict[str, str]:
    return {"role": "system", "content": _SYSTEM}


def _assistant(text: str, **fields: str) -> dict[str, str]:
    return {"role": "assistant", "content": text, **fields}


def _replies(tags: tuple[str, str]) -> list[dict[str, str]]:
    """A turn with reasoning, in each way in which templates take it."""
    opening, closing = tags
    fields = [_assistant(_REPLIED, **{name: _THOUGHT}) for name in _FIELDS]
    return [*fields, _assistant(f"{opening}\n{_THOUGHT}\n{closing}\n\n{_REPLIED}")]


def _pasts(trial: _Trial, tags: tuple[str, str]) -> list[str]:
    """Chats that go on after a turn with reasoning."""
    chats = [(_user(_ASKED), reply, _user(_AGAIN)) for reply in _replies(tags)]
    return [text for chat in chats if (text := trial.text(*chat)) is not None]


def _tags(trial: _Trial) -> tuple[str, str]:
    """The tags that the template knows, or else the tokenizer; R1's if neither knows any."""
    known = {token.content for token in trial.tokenizer.added_tokens_decoder.values()}
    for pair in _PAIRS:
        if any(tag in trial.template for tag in pair):
            return pair
    return next((pair for pair in _PAIRS if set(pair) <= known), _PAIRS[0])


def _closed(prompt: str, tags: tuple[str, str]) -> bool:
    """Whether a prompt ends with a think block that is closed again."""
    opening, closing = map(re.escape, tags)
    return re.search(rf"{opening}\s*{closing}\s*\Z", prompt) is not None


def _thinking(
    trial: _Trial, prompt: str, tags: tuple[str, str], *, plain: bool
) -> dict[str, Think | str]:
    """Who opens the think block, and the white space around it."""
    opening, closing = tags
    prefilled = prompt.rstrip().endswith(opening)
    opens, closes = OPENS, CLOSES
    if tags != _PAIRS[0]:
        opens, closes = f"{opening}\n", f"\n{closing}\n\n"
    if prefilled:
        opens = prompt[prompt.rindex(opening) :]
        if opens == opening:
            closes = closing
    before = prompt.removesuffix(opens) if prefilled else prompt
    for reply in _replies(tags)[: len(_FIELDS)]:
        whole = trial.text(_user(_ASKED), reply, begun=False) or ""
        thought, answer = whole.find(_THOUGHT), whole.rfind(_REPLIED)
        if not whole.startswith(before) or not 0 <= thought < answer:
            continue
        first, then = whole[len(before) : thought], whole[thought + len(_THOUGHT) : answer]
        if first.strip() == opening and then.strip() == closing:
            return {
                "think": "none" if plain else "prefilled" if prefilled else "generated",
                "opens": opens if prefilled else first,
                "closes": then,
            }
    think: Think = "none" if plain else "prefilled" if prefilled else "generated"
    return {"think": think, "opens": opens, "closes": closes}


def _stop(trial: _Trial, prompt: str, said: Mapping[str, Any]) -> str:
    """The token that the template puts after an assistant's turn."""
    tokenizer = trial.tokenizer
    added = {token.content for token in tokenizer.added_tokens_decoder.values()}
    tokens = sorted({*tokenizer.all_special_tokens, *added}, key=len, reverse=True)
    ended = trial.text(_user(_ASKED), _assistant(_REPLIED), begun=False) or ""
    on = trial.text(_user(_ASKED), _assistant(_REPLIED), _user(_AGAIN)) or ""
    for text in (ended, on):
        after = text.rpartition(_REPLIED)[2].lstrip()
        for token in tokens:
            if token.strip() and after.startswith(token.strip()):
                return str(token)
    if tokenizer.eos_token:
        return str(tokenizer.eos_token)
    if "stop" in said:
        return str(said["stop"])
    raise ValueError(
        "finetune.stop: name the token that ends a turn, since the template puts none after an "
        "assistant's"
    )
