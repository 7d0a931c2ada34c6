"""Ollama's Modelfile beside a GGUF file: its template, stop token and sampling.

Ollama reads no Jinja. Its own kind of template is put together from what the trained template
writes around each message, and only if a whole chat then reads the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_SYSTEM, _ASKED, _SAID, _AGAIN = "\x01system\x01", "\x01asked\x01", "\x01said\x01", "\x01again\x01"


def modelfile(
    file: str, tokenizer: Any, stops: Sequence[str], system: str | None, sampling: dict[str, float]
) -> str:
    """The text of a Modelfile for `file`, which lies beside it. `sampling` has Ollama's names."""
    lines = [f"FROM ./{file}"]
    template = ollama_template(tokenizer)
    if template is None:
        lines.append(
            "# No TEMPLATE: this chat template can't be put in Ollama's words. Ollama takes the "
            "file's own where it knows it."
        )
    else:
        lines.append(f'TEMPLATE """{template}"""')
    if system:
        lines.append(f'SYSTEM """{system}"""')
    lines += [f'PARAMETER stop "{stop}"' for stop in stops]
    lines += [f"PARAMETER {name} {value}" for name, value in sampling.items()]
    return "\n".join(lines) + "\n"


def ollama_template(tokenizer: Any) -> str | None:
    """The trained chat template in Ollama's words, None if it does not go into them. The token that
    llama.cpp puts before every text by itself is left out.
    """
    from jinja2 import TemplateError

    def shown(*messages: tuple[str, str], prompt: bool = False) -> str:
        text: str = tokenizer.apply_chat_template(
            [{"role": role, "content": content} for role, content in messages],
            tokenize=False, add_generation_prompt=prompt,
        )  # fmt: skip
        begins = tokenizer.bos_token
        if begins and tokenizer("x").input_ids[0] == tokenizer.bos_token_id:
            text = text.removeprefix(begins)
        return text

    asked, said, again = ("user", _ASKED), ("assistant", _SAID), ("user", _AGAIN)
    try:
        first, user_close = shown(asked).split(_ASKED)
        opened = shown(asked, prompt=True).split(_ASKED)[1].removeprefix(user_close)
        between, assistant_close = shown(asked, said).split(_ASKED)[1].split(_SAID)
        assistant_open = between.removeprefix(user_close)
        user_open = shown(asked, said, again).split(_SAID)[1].split(_AGAIN)[0]
        user_open = user_open.removeprefix(assistant_close)
    except (ValueError, TemplateError):  # a message is left out, written twice, or refused
        return None
    system_open = system_close = ""
    try:
        system_open, rest = shown(("system", _SYSTEM), asked).split(_SYSTEM)
        system_close = rest.split(_ASKED)[0].removesuffix(user_open)
    except (ValueError, TemplateError):  # no system turn
        system_open = ""
    head = first.removesuffix(user_open)
    wholes = [
        (head, (asked,)),
        (head, (asked, said, again)),
    ]
    if system_open:
        wholes.append((system_open + _SYSTEM + system_close, (("system", _SYSTEM), asked)))
    for begin, messages in wholes:
        text = begin
        for role, content in messages:
            if role == "user":
                text += user_open + content + user_close
            elif role == "assistant":
                text += assistant_open + content + assistant_close
        if text + opened != shown(*messages, prompt=True):
            return None
    parts = (head, user_open, user_close, assistant_open, assistant_close, opened, system_open,
             system_close)  # fmt: skip
    if any("{{" in part or '"""' in part for part in parts):
        return None
    before = head
    if system_open:
        before = f"{{{{ if .System }}}}{system_open}{{{{ .System }}}}{system_close}"
        before += f"{{{{ else }}}}{head}{{{{ end }}}}" if head else "{{ end }}"
    return (
        f"{before}{{{{ range .Messages }}}}"
        f'{{{{ if eq .Role "user" }}}}{user_open}{{{{ .Content }}}}{user_close}'
        f'{{{{ else if eq .Role "assistant" }}}}{assistant_open}{{{{ .Content }}}}{assistant_close}'
        f"{{{{ end }}}}{{{{ end }}}}{opened}"
    )
