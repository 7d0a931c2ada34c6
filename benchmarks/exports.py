"""Whether all who read an export say the same: `python benchmarks/exports.py RUN`.

The student in RUN answers held-out problems of its run greedily, in float32: by this environment's
transformers and vLLM, with `--older PYTHON` by the transformers of that Python (4.57), with
`--llama PYTHON` by llama.cpp, as llama-cpp-python has it there, for each GGUF file in the run. Each
reader makes the prompt of the messages itself. Compared are the ids of prompts and answers; where
answers part, it is told how far apart the two likeliest tokens were for the first reader. Writes
benchmarks/results/exports.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def by_transformers(path: str, chats: list[Any], most: int) -> dict[str, Any]:
    """Answers of transformers, and how far the two likeliest tokens are apart at each, in nats."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    rows = []
    for chat in chats:
        prompt = tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        made = model.generate(
            **prompt, do_sample=False, max_new_tokens=most, output_logits=True,
            return_dict_in_generate=True, temperature=None, top_p=None, top_k=None,
        )  # fmt: skip
        begin = prompt["input_ids"].shape[1]
        best = [logits[0].topk(2).values for logits in made.logits]
        rows.append(
            {
                "prompt": prompt["input_ids"][0].tolist(),
                "made": made.sequences[0, begin:].tolist(),
                "gaps": [float(two[0] - two[1]) for two in best],
            }
        )
    return {"reader": f"transformers {transformers.__version__}", "rows": rows}


def by_vllm(path: str, chats: list[Any], most: int) -> dict[str, Any]:
    """Answers of vLLM."""
    import vllm

    model = vllm.LLM(model=path, dtype="float32", max_model_len=1024, disable_log_stats=True)
    made = model.chat(chats, vllm.SamplingParams(temperature=0.0, max_tokens=most), use_tqdm=False)
    rows = [
        {"prompt": list(one.prompt_token_ids), "made": list(one.outputs[0].token_ids)}
        for one in made
    ]
    return {"reader": f"vLLM {vllm.__version__}", "rows": rows}


def by_llama_cpp(path: str, chats: list[Any], most: int) -> dict[str, Any]:
    """Answers of llama.cpp, with the file's own template and tokens."""
    import llama_cpp
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    model = llama_cpp.Llama(model_path=path, n_ctx=1024, verbose=False)
    texts = [model._model.token_get_text(token) for token in (model.token_eos(), model.token_bos())]
    format_ = Jinja2ChatFormatter(model.metadata["tokenizer.chat_template"], *texts)
    rows = []
    for chat in chats:
        prompt = model.tokenize(format_(messages=chat).prompt.encode(), add_bos=False, special=True)
        model.reset()
        made: list[int] = []
        for token in model.generate(prompt, temp=0.0):
            made.append(token)
            if len(made) == most or llama_cpp.llama_vocab_is_eog(model._model.vocab, token):
                break
        rows.append({"prompt": prompt, "made": made})
    return {"reader": f"llama.cpp ({llama_cpp.__version__}), {Path(path).name}", "rows": rows}


READERS = {"transformers": by_transformers, "vllm": by_vllm, "llama": by_llama_cpp}


def compared(first: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """How many prompts and answers of two readers are the same, and where answers part."""
    parted = []
    pairs = list(zip(first["rows"], other["rows"], strict=True))
    for one, two in pairs:
        if one["made"] != two["made"]:
            same = zip(one["made"], two["made"], strict=False)
            at = next((at for at, (a, b) in enumerate(same) if a != b), None)
            at = min(len(one["made"]), len(two["made"])) if at is None else at
            gaps = one["gaps"]
            parted.append({"at": at, "gap": gaps[at] if at < len(gaps) else None})
    return {
        "prompts": len(pairs),
        "same_prompt": sum(one["prompt"] == two["prompt"] for one, two in pairs),
        "same_answer": len(pairs) - len(parted),
        "parted": parted,
    }


def main() -> None:
    """Ask all readers, and compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--older", help="a Python with transformers 4.57")
    parser.add_argument("--llama", help="a Python with llama-cpp-python")
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--most", type=int, default=160, help="tokens of an answer")
    parser.add_argument("--reader", choices=list(READERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reader:
        asked = json.loads(sys.stdin.read())
        made = READERS[options.reader](str(options.run), asked["chats"], asked["most"])
        print("RESULT " + json.dumps(made))
        return
    sys.path.insert(0, str(ROOT))
    from tracestill.recipe.loading import recipe_of_run
    from tracestill.records import Problem
    from tracestill.records.tables import read_table
    from tracestill.run.provenance import provenance

    system = recipe_of_run(options.run).finetune.system_prompt
    before = [{"role": "system", "content": system}] if system else []
    problems = [one.prompt for one in read_table(options.run / "problems", "heldout", Problem)]
    step = max(1, len(problems) // options.prompts)
    chats = [
        [*before, {"role": "user", "content": prompt}]
        for prompt in problems[::step][: options.prompts]
    ]
    merged = options.run / "finetune" / "merged"
    asked = [(sys.executable, "transformers", merged), (sys.executable, "vllm", merged)]
    if options.older:
        asked.append((options.older, "transformers", merged))
    files = sorted((options.run / "finetune" / "gguf").glob("*.gguf"))
    asked += [(options.llama, "llama", file) for file in files if options.llama]
    found = []
    for python, reader, path in asked:
        done = subprocess.run(
            [python, __file__, str(path), "--reader", reader], text=True, stdout=subprocess.PIPE,
            input=json.dumps({"chats": chats, "most": options.most}), check=True,
        )  # fmt: skip
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        found.append(json.loads(lines[-1].removeprefix("RESULT ")))
        print(found[-1]["reader"], compared(found[0], found[-1]), flush=True)
    results = {one["reader"]: compared(found[0], one) for one in found[1:]}
    target = ROOT / "benchmarks" / "results" / "exports.json"
    kept = {"first": found[0]["reader"], "readers": results, "provenance": provenance(0)}
    target.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
