"""What an endpoint's reply says: an answer, or why there is none, whether a retry may help, and
whether it was paid for.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from generate.engine import Usage
from generate.messages import read_message
from generate.served.limits import retry_after
from generate.served.transport import Reply
from generate.served.wholeness import is_whole
from tracestill.records import Finish

Scrub = Callable[[str], str]
"""Hides API keys in a text."""

_SHOWN = 200  # characters of a reply in an error
_KEYS = re.compile(r"\b(?:sk|rk|pk|gsk|xai|hf|key|tgp)[-_][\w*.-]{6,}|(?<=Bearer )\S+")
_BYTES_A_TOKEN = 4

_TOO_LONG = re.compile(
    r"context[_ ](?:length|window)|maximum (?:context|model) length|max_model_len"
    r"|prompt is too long|too many (?:input )?tokens|(?:input|prompt) (?:length )?exceeds",
    re.IGNORECASE,
)
_NO_CREDIT = re.compile(r"insufficient[_ ](?:quota|balance|credits?|funds)", re.IGNORECASE)
_PASSING = frozenset({408, 409, 425})
_BUSY = frozenset({429, 503, 529})
_GATEWAY = frozenset({502, 504, 520, 524})  # the server behind the gateway may have answered

_FINISHES: dict[str, Finish] = {"stop": "stop", "eos": "stop", "length": "length"}
_CUT_OFF = frozenset({"error", "abort", "insufficient_system_resource"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model said, and the tokens that the endpoint counts, if it does."""

    raw: str
    raw_reasoning: str | None
    token_ids: list[int] | None
    finish: Finish
    error: str | None
    usage: Usage | None

    @property
    def completion_tokens(self) -> int:
        """As the endpoint counts them, else those of `token_ids`, else an estimate."""
        if self.usage is not None:
            return self.usage.completion_tokens
        if self.token_ids is not None:
            return len(self.token_ids)
        return estimate_tokens(self.raw + (self.raw_reasoning or ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why there is no answer.

    `busy`: the server is overloaded. `passing`: a retry may succeed. `skipped`: the prompt is too
    long for the model. `refused`: this request will never succeed. `fatal`: no request will until
    the user has done something. `unknown`: the endpoint has no such model or address.
    """

    kind: Literal["busy", "passing", "skipped", "refused", "fatal", "unknown"]
    why: str
    wait: float | None = None
    """Seconds that the server asks to be left alone (`Retry-After`)."""
    broken: bool = False
    """Whether the server seems to be at fault, not the request."""
    lasting: bool = False
    """Whether a retry is likely to bring the same, so that one is enough."""
    counts: bool = True
    """Whether it uses up one of the request's retries."""
    answer: Answer | None = None
    """What came nevertheless."""
    usage: Usage | None = None
    """What the endpoint says that it bills."""
    maybe_billed: bool = False
    """Whether tokens may have been billed that nobody counted."""


def key_scrubber(key: str | None) -> Scrub:
    """A function that hides keys in a text: this one, and whatever looks like one."""

    def scrub(text: str) -> str:
        if key is not None:
            text = text.replace(key, "***")
        return _KEYS.sub("***", text)

    return scrub


def estimate_tokens(text: str) -> int:
    """About how many tokens a text has: one for every four bytes."""
    return -(-len(text.encode(errors="replace")) // _BYTES_A_TOKEN)


def _shown(text: str, scrub: Scrub) -> str:
    # Scrubbed before it is cut: a key that is cut in two would not be recognised.
    text = " ".join(scrub(text[: 50 * _SHOWN]).split())
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _error_message(error: Any) -> str:
    if isinstance(error, dict):
        parts = [error.get("code"), error.get("type"), error.get("message")]
        return " ".join(str(part) for part in parts if part)
    return str(error)


def _classify(
    status: int, said: str, why: str, *, wait: float | None = None, maybe_billed: bool = False
) -> Failure:
    if _NO_CREDIT.search(said) or status == 402:
        return Failure(kind="fatal", why=f"the account has no credit left: {why}")
    if status in (401, 403):
        return Failure(kind="fatal", why=why)
    if status in _BUSY:
        return Failure(kind="busy", why=why, wait=wait, broken=status == 503)
    if status in _PASSING or status >= 500:
        billed = maybe_billed or status in _GATEWAY
        return Failure(
            kind="passing", why=why, wait=wait, broken=status >= 500, maybe_billed=billed
        )
    if status in (400, 413, 422) and _TOO_LONG.search(said):
        return Failure(kind="skipped", why=why)
    if status in (404, 405):
        return Failure(kind="unknown", why=why)
    return Failure(kind="refused", why=why)


def read_json(reply: Reply, scrub: Scrub) -> dict[str, Any] | Failure:
    """The JSON object of a reply, or what went wrong."""
    text = functools.cache(lambda: reply.body.decode(errors="replace"))
    found = _decoded(reply.body)
    if reply.status != 200:
        why = f"status {reply.status}: {_shown(text(), scrub)}"
        wait = retry_after(reply.retry_after)
        return _with_usage(_classify(reply.status, text(), why, wait=wait), found)
    if not isinstance(found, dict):
        why = f"no JSON object came: {_shown(text(), scrub)!r}"
        return Failure(kind="passing", why=why, broken=True, maybe_billed=True)
    failure = _read_error(found, lambda: _shown(text(), scrub))
    return found if failure is None else _with_usage(failure, found)


def _decoded(body: bytes) -> Any:
    """The JSON of a body, None where it is none."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        return json.loads(body)  # slower, but it reads half a surrogate pair
    except (ValueError, RecursionError):
        return None


def _with_usage(failure: Failure, body: Any) -> Failure:
    usage = _usage(body) if isinstance(body, dict) else None
    return failure if usage is None else dataclasses.replace(failure, usage=usage)


def _read_error(found: dict[str, Any], text: Callable[[], str]) -> Failure | None:
    """The error in a reply whose status says that there is none."""
    error = found.get("error")
    if error is None and found.get("object") == "error":
        error = found
    if not error:
        return None
    why = f"an error came with status 200: {text()}"
    code = error.get("code") if isinstance(error, dict) else None
    status = int(code) if isinstance(code, int | str) and re.fullmatch(r"\d{3}", f"{code}") else 0
    message = _error_message(error)
    if status == 0:  # no status: a retry may help, unless it says what can't
        status = 400 if _TOO_LONG.search(message) else 500
    return _classify(status, message, why, maybe_billed=True)


def _usage(found: dict[str, Any]) -> Usage | None:
    """The tokens that a reply says were used; None where it does not say."""
    usage = found.get("usage")
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not (isinstance(prompt, int) and isinstance(completion, int)):
        return None
    cost = usage.get("cost")
    cost = float(cost) if isinstance(cost, int | float) else None
    return Usage(prompt_tokens=prompt, completion_tokens=completion, cost=cost)


def read_reply(reply: Reply, scrub: Scrub, max_tokens: int = 0) -> Answer | Failure:
    """The answer in a reply, a chat completion or a completion, or why there is none. Without a
    `finish_reason` it is an answer only where it is whole (`wholeness`), of the `max_tokens` that
    were asked for at most; 0 where that is not to be told.
    """
    found = read_json(reply, scrub)
    if isinstance(found, Failure):
        return found

    def unreadable(why: str) -> Failure:
        shown = _shown(reply.body.decode(errors="replace"), scrub)
        usage = _usage(found)
        return Failure(kind="passing", why=f"{why}: {shown!r}", usage=usage, maybe_billed=True)

    choices = found.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return unreadable("no choices came")
    choice = choices[0]
    message = choice.get("message") or {"content": choice.get("text")}
    try:
        said = read_message(message if isinstance(message, dict) else {"content": message})
    except (ValueError, RecursionError):
        return dataclasses.replace(unreadable("the content is no text"), lasting=True)
    reason = choice.get("finish_reason")
    reason = reason if isinstance(reason, str) else None
    usage = _usage(found)
    if reason is None and usage and not choice.get("error"):
        reason = "stop" if is_whole(said, usage.completion_tokens, max_tokens) else None
    finish = _FINISHES.get(reason or "", "error")
    answer = Answer(
        raw=said.text,
        raw_reasoning=said.reasoning,
        token_ids=ids if isinstance(ids := choice.get("token_ids"), list) else None,
        finish=finish,
        error=None if finish != "error" else f"the endpoint ended it with {reason!r}",
        usage=usage,
    )
    if choice.get("error") or reason is None or reason in _CUT_OFF:
        why = f"the endpoint broke off (finish_reason {reason!r})"
        return dataclasses.replace(unreadable(why), answer=answer, lasting=reason is None)
    return answer
