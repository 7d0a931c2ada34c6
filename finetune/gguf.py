"""The exported student in GGUF, llama.cpp's format: converted, quantised, and checked by it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from finetune.export_checks import (
    MOST_DIFFERENCE,
    Predictions,
    load_whole,
    logit_difference,
    predict,
)
from finetune.generation import generate_greedily, spare_threads
from finetune.llama_cpp import RELEASE, call, converter
from finetune.merge import release
from finetune.modelfile import modelfile
from finetune.sample import Sample
from finetune.tokenizer import pad_id, prompt_text
from tracestill.recipe.finetune import FinetuneSection
from tracestill.records.content import folder_fingerprint
from tracestill.records.figures import GgufFigures, GgufFile
from tracestill.records.files import sync_folder, sync_tree, write_atomic
from tracestill.records.layout import GGUF_FIGURES

_WHOLE = ("f32", "bf16", "f16")  # kinds that are not quantised
_TOKENS = 256  # of each answer
_COMPARED = 4  # answers whose logits are compared
_NEAR = 0.1  # nats between two candidates for a token, which rounding may put in either order


def export_gguf(
    merged: Path,
    folder: Path,
    kinds: Sequence[str],
    prompts: Sequence[str],
    settings: FinetuneSection,
    *,
    name: str,
    sampling: dict[str, float],
    on_step: Callable[[str], None] = lambda step: None,
) -> GgufFigures:
    """Write the student in `merged` as GGUF files into `folder`, one for each of `kinds` (`q8_0`,
    `q4_k_m`, as llama.cpp names them), with a Modelfile for the first, and let llama.cpp answer
    `prompts` with each.

    Args:
        merged: the exported student.
        folder: is replaced.
        kinds: of the files.
        prompts: problems, as their text.
        settings: of the training: the system prompt, and whether code of the student's may run.
        name: of the model, and of its files.
        sampling: what the Modelfile sets, by Ollama's names.
        on_step: is told in words what is being done.

    Raises:
        ValueError: llama.cpp is not here, or knows no such kind; one line with the fix.
        RuntimeError: llama.cpp can't convert the student, or reads other tokens, another template
            or other weights than were exported.

    """
    tools = converter()
    known = call("kinds")
    if wrong := [kind for kind in kinds if kind not in known]:
        raise ValueError(
            f"--quant {wrong[0]}: llama.cpp knows no such kind; it knows {', '.join(known)}"
        )
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(merged, trust_remote_code=settings.trust_remote_code)
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    config = json.loads((merged / "config.json").read_text())
    own = {"bfloat16": "bf16", "float16": "f16"}.get(config["dtype"], "f32")
    source = temporary / f"{name}-{own}.gguf"
    on_step("converting")
    call("convert", converter=str(tools), model=str(merged), out=str(source), kind=own, name=name)
    texts = [prompt_text(tokenizer, prompt, settings.system_prompt) for prompt in prompts]
    on_step("letting the merged student answer")
    asked = _Asked.of(merged, tokenizer, texts, settings)
    files, findings = [], []
    for kind in dict.fromkeys(kinds):
        path = temporary / f"{name}-{kind}.gguf"
        if path != source:
            on_step(f"quantising: {kind}")
            call("quantise", source=str(source), out=str(path), kind=kind)
        on_step(f"checking: {kind}")
        made = _checked(path, kind, asked, tokenizer)
        files.append(made)
        findings += _findings(made)
    if own not in kinds:
        source.unlink()
    stops = [tokenizer.convert_ids_to_tokens(token) for token in asked.ends]
    text = modelfile(files[0].file, tokenizer, stops, settings.system_prompt, sampling)
    (temporary / "Modelfile").write_text(text, encoding="utf-8")
    figures = GgufFigures(
        merged=folder_fingerprint(merged), release=RELEASE, files=files, findings=findings
    )
    write_figures(temporary, figures)
    sync_tree(temporary)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    sync_folder(folder.parent)
    return figures


def write_figures(folder: Path, figures: GgufFigures) -> None:
    """Write the figures beside the files."""
    text = msgspec.json.format(msgspec.json.encode(asdict(figures)))
    write_atomic(folder / GGUF_FIGURES, text)


def _findings(made: GgufFile) -> list[str]:
    """What a user should know of a file."""
    found = []
    other = made.answers - made.same
    if made.kind in _WHOLE and other:
        line = f"{made.kind}: {other} of {made.answers} greedy answers differ from merged/'s"
        if made.largest_gap is None:
            line += ": llama.cpp ends them at other tokens"
        elif made.largest_gap < _NEAR:
            line += (
                f" from some token on, where the two candidates were within {made.largest_gap:.2g} "
                "nats: as good as a tie"
            )
        else:
            line += (
                f", at tokens whose candidates were up to {made.largest_gap:.2g} nats apart: more "
                "than rounding explains"
            )
        found.append(line)
    if not made.ended:
        found.append(f"{made.kind}: none of {made.answers} answers ended within {_TOKENS} tokens")
    return found


class _Asked:
    """What the merged student makes of the prompts: what llama.cpp should make of them too."""

    def __init__(
        self, texts: list[str], samples: list[Sample], answers: list[list[int]],
        predictions: Predictions, ends: list[int],
    ) -> None:  # fmt: skip
        self.texts, self.samples, self.answers = texts, samples, answers
        self.predictions, self.ends = predictions, ends

    @classmethod
    def of(
        cls, merged: Path, tokenizer: Any, texts: list[str], settings: FinetuneSection
    ) -> _Asked:
        import torch

        model = load_whole(merged, settings, torch.float32)
        spare_threads(model)
        ends = model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        alone = [_sample(tokenizer(text, add_special_tokens=False).input_ids) for text in texts]
        answers = generate_greedily(
            model, alone, ends, pad_id(tokenizer, ends[0]), max_tokens=_TOKENS
        )
        samples = [
            _sample(one.input_ids.tolist(), answer)
            for one, answer in zip(alone, answers, strict=True)
        ]
        seen = predict(model, samples[:_COMPARED])
        release(model)
        return cls(texts, samples, answers, seen, ends)


def _sample(prompt: list[int], answer: Sequence[int] = ()) -> Sample:
    ids = np.array([*prompt, *answer], dtype=np.int32)
    return Sample(trace_id="", input_ids=ids, prompt=len(prompt), answer=len(prompt))


def _checked(path: Path, kind: str, asked: _Asked, tokenizer: Any) -> GgufFile:
    """What llama.cpp makes of a file, compared with the merged student."""
    import torch

    prompts = [one.input_ids[: one.prompt].tolist() for one in asked.samples]
    compared = asked.samples[:_COMPARED]
    logits = path.with_suffix(".npy")
    seen = call(
        "look", file=str(path), texts=asked.texts, prompts=prompts, logits=str(logits),
        samples=[one.input_ids.tolist() for one in compared],
        learnt=[min(128, one.learnt) for one in compared], most=_TOKENS,
        expected=asked.answers,
    )  # fmt: skip
    for text, ids, expected in zip(asked.texts, seen["ids"], prompts, strict=True):
        if ids != expected:
            raise RuntimeError(
                f"llama.cpp splits text otherwise than the student's tokenizer: {text[-60:]!r} has "
                f"{len(ids)} tokens there, not {len(expected)}"
            )
    if seen["template"] != tokenizer.chat_template:
        raise RuntimeError(f"{path.name} was written without the trained chat template")
    read = Predictions(logits=torch.from_numpy(np.load(logits)), loss=0.0)
    logits.unlink()
    apart = logit_difference(read, asked.predictions)
    if kind in _WHOLE and apart > MOST_DIFFERENCE:
        raise RuntimeError(
            f"llama.cpp computes otherwise than transformers with the same weights: the logits "
            f"differ by {apart:.2f} of their spread; its converter may not know this student"
        )
    same = [ours == theirs for ours, theirs in zip(seen["answers"], asked.answers, strict=True)]
    return GgufFile(
        kind=kind,
        file=path.name,
        bytes=path.stat().st_size,
        logit_difference=round(apart, 5),
        answers=len(same),
        same=sum(same),
        ended=sum(seen["ended"]),
        largest_gap=max((gap for _, gap in filter(None, seen["parted"])), default=None),
        tokens_per_second=round(seen["tokens_per_second"], 1),
    )
