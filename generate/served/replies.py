"""What an endpoint's reply says: an answer, or why there is none and whether that may pass."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from generate.served.http import Reply
from generate.served.limits import retry_after
from tracestill.records import Finish

Mask = Callable[[str], str]

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

_FINISHES: dict[str | None, Finish] = {"stop": "stop", "eos": "stop", "length": "length"}
_CUT_OFF = frozenset({None, "error", "abort", "insufficient_system_resource"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model said. Where the endpoint counts no tokens, they are those of `token_ids`, or
    an estimate: a token for every four bytes.
    """

    raw: str
    raw_reasoning: str | None
    token_ids: list[int] | None
    finish: Finish
    error: str | None
    prompt_tokens: int | None
    completion_tokens: int
    cost: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why there is no answer.

    `busy`: the server has too much to do. `passing`: it may go better next time. `skipped`: the
    prompt is too long for the model. `refused`: this request will never go. `fatal`: none will,
    before somebody does something. `unknown`: the endpoint has no such model or address.
    """

    kind: Literal["busy", "passing", "skipped", "refused", "fatal", "unknown"]
    why: str
    wait: float | None = None
    """Seconds that the server wants to be left alone."""
    broken: bool = False
    """Whether it is the server that seems to be broken, not the request."""
    counts: bool = True
    """Whether it is one of the tries that a request has."""
    answer: Answer | None = None
    """What came nevertheless."""


def masker(key: str | None) -> Mask:
    """A function that hides keys in a text: this one, and whatever looks like one."""

    def mask(text: str) -> str:
        if key is not None:
            text = text.replace(key, "***")
        return _KEYS.sub("***", text)

    return mask


def estimate_tokens(text: str) -> int:
    """About how many tokens a text has, where nobody counted."""
    return -(-len(text.encode(errors="replace")) // _BYTES_A_TOKEN)


def _shown(text: str, mask: Mask) -> str:
    # Masked before it is cut: a key that is cut in two would not be known again.
    text = " ".join(mask(text[: 50 * _SHOWN]).split())
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _error_message(error: Any) -> str:
    if isinstance(error, dict):
        parts = [error.get("code"), error.get("type"), error.get("message")]
        return " ".join(str(part) for part in parts if part)
    return str(error)


def _classify(status: int, said: str, wait: float | None, why: str) -> Failure:
    if _NO_CREDIT.search(said) or status == 402:
        return Failure(kind="fatal", why=f"the account has no credit left: {why}")
    if status in (401, 403):
        return Failure(kind="fatal", why=why)
    if status in _BUSY:
        return Failure(kind="busy", why=why, wait=wait, broken=status == 503)
    if status in _PASSING or status >= 500:
        return Failure(kind="passing", why=why, wait=wait, broken=status >= 500)
    if status in (400, 413, 422) and _TOO_LONG.search(said):
        return Failure(kind="skipped", why=why)
    if status in (404, 405):
        return Failure(kind="unknown", why=why)
    return Failure(kind="refused", why=why)


def read_json(reply: Reply, mask: Mask) -> dict[str, Any] | Failure:
    """The JSON object of a reply, or what went wrong."""
    if reply.status != 200:
        text = reply.body.decode(errors="replace")
        why = f"status {reply.status}: {_shown(text, mask)}"
        return _classify(reply.status, text, retry_after(reply.retry_after), why)
    try:
        found = msgspec.json.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = reply.body.decode(errors="replace")
        return Failure(kind="passing", why=f"no JSON came: {_shown(text, mask)!r}", broken=True)
    if not isinstance(found, dict):
        text = reply.body.decode(errors="replace")
        return Failure(
            kind="passing", why=f"no JSON object came: {_shown(text, mask)!r}", broken=True
        )
    return _read_error(found, reply, mask) or found


def _read_error(found: dict[str, Any], reply: Reply, mask: Mask) -> Failure | None:
    """The error in a reply whose status says that there is none."""
    error = found.get("error")
    if error is None and found.get("object") == "error":
        error = found
    if not error:
        return None
    text = reply.body.decode(errors="replace")
    why = f"an error came with status 200: {_shown(text, mask)}"
    code = error.get("code") if isinstance(error, dict) else None
    status = int(code) if isinstance(code, int | str) and re.fullmatch(r"\d{3}", f"{code}") else 0
    message = _error_message(error)
    if status == 0:  # no status: it may pass, unless it says what can't
        status = 400 if _TOO_LONG.search(message) else 500
    return _classify(status, message, None, why)


def read_answer(found: dict[str, Any], text: Callable[[], str]) -> Answer | Failure:
    """The answer in a chat completion or a completion; `text` is the reply to be shown."""
    choices = found.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return Failure(kind="passing", why=f"no choices came: {text()!r}")
    choice = choices[0]
    message = choice.get("message") or {"content": choice.get("text")}
    content = message.get("content") if isinstance(message, dict) else message
    if not isinstance(content, str | None):
        return Failure(kind="passing", why=f"the content is no text: {text()!r}")
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    answer = _answer(found, choice, content or "", reasoning)
    reason = choice.get("finish_reason")
    if choice.get("error") or reason in _CUT_OFF:
        why = f"the endpoint broke off (finish_reason {reason!r}): {text()!r}"
        return Failure(kind="passing", why=why, answer=answer)
    return answer


def _answer(found: dict[str, Any], choice: dict[str, Any], raw: str, reasoning: Any) -> Answer:
    usage = found.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    ids = choice.get("token_ids")
    ids = ids if isinstance(ids, list) else None
    reasoning = reasoning if isinstance(reasoning, str) else None
    completion, prompt = usage.get("completion_tokens"), usage.get("prompt_tokens")
    if not isinstance(completion, int):
        completion = len(ids) if ids is not None else estimate_tokens(raw + (reasoning or ""))
    reason = choice.get("finish_reason")
    finish = _FINISHES.get(reason, "error")
    cost = usage.get("cost")
    return Answer(
        raw=raw,
        raw_reasoning=reasoning,
        token_ids=ids,
        finish=finish,
        error=None if finish != "error" else f"the endpoint ended it with {reason!r}",
        prompt_tokens=prompt if isinstance(prompt, int) else None,
        completion_tokens=completion,
        cost=float(cost) if isinstance(cost, int | float) else None,
    )


def read_reply(reply: Reply, mask: Mask) -> Answer | Failure:
    """The answer in a reply, or why there is none."""
    found = read_json(reply, mask)
    if isinstance(found, Failure):
        return found
    return read_answer(found, lambda: _shown(reply.body.decode(errors="replace"), mask))
