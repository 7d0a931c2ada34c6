"""What llama.cpp does for `finetune.gguf`, in a process of its own: JSON in, JSON out."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

# Two bytes that follow each other in no text: llama.cpp wants merges even of a tokenizer that has
# none.
_NO_MERGE = "Ā Ā"


def convert(converter: str, model: str, out: str, kind: str, name: str) -> None:
    """Convert a model's folder by llama.cpp's own program, with one more way to find out how a
    tokenizer splits text: where it does not know the tokenizer by what it makes of a sample, by the
    rule that it has. The export checks that llama.cpp then splits as it does.
    """
    sys.path.insert(0, converter)
    import convert_hf_to_gguf as program
    import gguf
    from conversion.base import TextModel

    from tracestill.records.gguf_tokenizer import split_name

    known, added = TextModel.get_vocab_base_pre, gguf.SpecialVocab.add_to_gguf

    def rule(self: Any, tokenizer: Any) -> str:
        try:
            return str(known(self, tokenizer))
        except NotImplementedError:
            found = split_name(tokenizer)
            if found is None:
                raise
            return found

    def add(self: Any, *arguments: Any, **more: Any) -> None:
        self.merges = self.merges or [_NO_MERGE]
        added(self, *arguments, **more)

    TextModel.get_vocab_base_pre, gguf.SpecialVocab.add_to_gguf = rule, add
    sys.argv = [program.__file__, model, "--outfile", out, "--outtype", kind, "--model-name", name]
    program.main()


def quantise(source: str, out: str, kind: str) -> None:
    """Quantise a GGUF file, `kind` as llama.cpp names it (`q4_k_m`)."""
    import ctypes

    import llama_cpp

    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = kinds()[kind]
    failed = llama_cpp.llama_model_quantize(source.encode(), out.encode(), ctypes.byref(parameters))
    if failed:
        raise RuntimeError(f"llama.cpp can't make {kind} of {source}")


def kinds() -> dict[str, int]:
    """The kinds of GGUF files that this llama.cpp makes, by name."""
    import llama_cpp

    found = {"f32": llama_cpp.LLAMA_FTYPE_ALL_F32}
    for name, value in vars(llama_cpp).items():
        if name.startswith("LLAMA_FTYPE_MOSTLY_"):
            found[name.removeprefix("LLAMA_FTYPE_MOSTLY_").lower()] = value
    return found


def look(
    file: str, texts: list[str], prompts: list[list[int]], samples: list[list[int]],
    learnt: list[int], logits: str, most: int, expected: list[list[int]],
) -> dict[str, Any]:  # fmt: skip
    """What llama.cpp makes of a file: the texts' token ids, the greedy tokens after each prompt up
    to `most` (and whether the last ended its turn), and, saved in `logits`, float32 predictions of
    the last `learnt` tokens of each sample, one below the other.

    `parted` has for each prompt None, or at which token the answer first differs from the
    `expected` one and by how much the logit of the drawn token is above that of the expected one.
    """
    import numpy as np
    from llama_cpp import Llama, llama_vocab_is_eog

    longest = max([len(ids) + most for ids in prompts] + [len(ids) for ids in samples])
    model = Llama(file, n_ctx=longest + 8, n_batch=512, logits_all=True, verbose=False)
    parts = []
    for ids, count in zip(samples, learnt, strict=True):
        model.reset()
        model.eval(ids)
        parts.append(model.scores[len(ids) - count - 1 : len(ids) - 1].copy())
    np.save(logits, np.concatenate(parts))
    answers, ended, begin, made = [], [], time.monotonic(), 0
    parted: list[tuple[int, float] | None] = []
    for ids, wanted in zip(prompts, expected, strict=True):
        answer: list[int] = []
        ends = False
        for token in model.generate(ids, top_k=1, temp=0.0, repeat_penalty=1.0):
            answer.append(token)
            ends = llama_vocab_is_eog(model._model.vocab, token)
            if ends or len(answer) >= most:
                break
        answers.append(answer)
        ended.append(bool(ends))
        pairs = enumerate(zip(answer, wanted, strict=False))
        at = next((at for at, (token, other) in pairs if token != other), None)
        if at is None:
            parted.append(None)
        else:
            scores = model.scores[len(ids) + at - 1]
            parted.append((at, float(scores[answer[at]] - scores[wanted[at]])))
        made += len(answer)
    return {
        "ids": [model.tokenize(text.encode(), add_bos=False, special=True) for text in texts],
        "answers": answers,
        "ended": ended,
        "parted": parted,
        "template": model.metadata.get("tokenizer.chat_template"),
        "tokens_per_second": made / (time.monotonic() - begin),
    }


def main() -> None:
    """Do the task that the command line names with what standard input says."""
    task = {"convert": convert, "quantise": quantise, "kinds": kinds, "look": look}[sys.argv[1]]
    result = task(**json.load(sys.stdin))  # type: ignore[operator]
    print("\n\x00" + json.dumps(result))


if __name__ == "__main__":
    main()
