"""The speed of preparing samples: `python benchmarks/finetune_prepare.py --text FILE`.

Render, check and pack of this project beside what trl's SFTTrainer does with the same traces
(chat template, tokenise, labels, pack by best fit), with its datasets on disk and in memory, by one
process and by two. Each way in a process of its own, in turn. All make the same ids: their digest
is compared. `FILE` is a .jsonl with solutions of mathematics under `code` (as Qwen2.5-Math's
example of evaluation has them); traces are put together from these, with other numbers, in lengths
as R1's. Writes benchmarks/results/finetune_prepare.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

sys.path.remove(str(Path(__file__).parent))  # or `finetune` would be what lies beside this

from finetune.packing import pack
from finetune.render import render
from finetune.sample import Example
from finetune.sample_checks import check_samples
from finetune.tokenizer import load_tokenizer
from tracestill.recipe.contract import read_contract
from tracestill.recipe.finetune import FinetuneSection
from tracestill.run.provenance import provenance

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "benchmarks" / "results" / "finetune_prepare.json"
TEMPLATE = ROOT / "recipes" / "templates" / "qwen2.5.jinja"
VOCABULARY = 32_000
LONGEST = 32_768
WORDS_MEDIAN = 1_900  # of a trace, which are about 4,000 tokens
WAYS = ("tracestill", "trl, in memory", "trl, in memory, 2 processes", "trl, on disk",
        "trl, on disk, 2 processes")  # fmt: skip


def solutions(path: Path) -> list[list[str]]:
    """The file's solutions, as words with the white space before them."""
    import regex

    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [regex.findall(r"\s*\S+", text) for row in rows for text in row["code"]]


def write_traces(folder: Path, words: list[list[str]], count: int) -> None:
    """Write `count` traces as Parquet: by their parts, and as the chats that trl takes."""
    import datasets

    random = np.random.default_rng(0)

    def rows() -> Iterator[dict[str, str]]:
        for index in range(count):
            wanted = int(np.clip(random.lognormal(np.log(WORDS_MEDIAN), 0.7), 150, 12_000))
            taken: list[str] = []
            while len(taken) < wanted:
                taken += words[random.integers(len(words))]
                taken.append(f"\n\nWait, let me check that again ({index}).")
            other = "".join(random.permutation(list("0123456789")))
            text = "".join(taken[:wanted]).translate(str.maketrans("0123456789", other)).strip()
            yield {
                "id": f"t{index}",
                "prompt": f"Problem {index}: {text[: int(random.integers(100, 400))].strip()}",
                "reasoning": text,
                "answer": f"{text[-int(wanted * random.uniform(0.2, 0.8)) :].strip()}\n\n"
                f"The final answer is \\boxed{{{index}}}.",
            }

    def chat(row: dict[str, str]) -> dict[str, Any]:
        turn = f"<think>\n{row['reasoning']}\n</think>\n\n{row['answer']}"
        return {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "completion": [{"role": "assistant", "content": turn}],
        }

    datasets.disable_progress_bars()
    made = datasets.Dataset.from_generator(rows, cache_dir=str(folder / "made"))
    made.to_parquet(folder / "traces.parquet")
    made.map(chat, remove_columns=made.column_names).to_parquet(folder / "chats.parquet")


def write_student(folder: Path, words: list[list[str]]) -> None:
    """A student without weights: a byte-level BPE with Qwen2's way of taking text apart, trained
    on the solutions and on the sources of Python's standard library.
    """
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast, Qwen2Config

    inner = Tokenizer(models.BPE())
    inner.normalizer = normalizers.NFC()
    split = Regex(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(split, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    texts = [*("".join(one) for one in words), *(path.read_text("utf-8") for path in sources)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, show_progress=False, initial_alphabet=alphabet
    )
    inner.train_from_iterator(texts, trainer)
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    inner.add_special_tokens([AddedToken(text, normalized=False) for text in special])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token=special[0], pad_token=special[0]
    )
    tokenizer.save_pretrained(folder)
    Qwen2Config(
        vocab_size=len(tokenizer), max_position_embeddings=LONGEST,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    ).save_pretrained(folder)  # fmt: skip


def ours(folder: Path, _: str) -> dict[str, Any]:
    """From the traces to packed rows."""
    import datasets
    from transformers import AutoConfig

    settings = FinetuneSection(student=str(folder), template=str(TEMPLATE), max_length=LONGEST)
    contract = read_contract(TEMPLATE, settings)
    tokenizer = load_tokenizer(str(folder), None, TEMPLATE)
    config = AutoConfig.from_pretrained(folder)
    data = datasets.Dataset.from_parquet(str(folder / "traces.parquet"), keep_in_memory=True)
    begin = time.perf_counter()
    examples = [
        Example(
            trace_id=row["id"],
            prompt=row["prompt"],
            reasoning=row["reasoning"],
            answer=row["answer"],
        )
        for row in data.to_list()
    ]
    rendered = render(examples, tokenizer, contract, settings)
    after_render = time.perf_counter()
    check_samples(rendered, examples, tokenizer, config, system=None, max_length=LONGEST)
    checked = time.perf_counter()
    rows = pack([len(sample.input_ids) for sample in rendered.samples], LONGEST)
    end = time.perf_counter()
    return {
        "seconds": end - begin,
        "seconds_without_checks": end - begin - (checked - after_render),
        "tokens": sum(len(sample.input_ids) for sample in rendered.samples),
        "rows": len(rows),
        "ids": _digest(
            (sample.input_ids, sample.labels) for sample in rendered.samples
        ),
    }  # fmt: skip


def trls(folder: Path, way: str) -> dict[str, Any]:
    """The same by SFTTrainer's own preparation, without its model."""
    import datasets
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    datasets.disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    # Past turns keep their reasoning here, or nothing of it would be learnt, and nothing follows
    # the stop token.
    tokenizer.chat_template = (
        TEMPLATE.read_text()
        .replace("message.content.split('</think>')[-1].lstrip('\\n')", "message.content")
        .replace(
            "{{- '<|im_end|>\\n' -}}",
            "{{- '<|im_end|>' + ('' if message.role == 'assistant' else '\\n') -}}",
        )
    )
    data = datasets.Dataset.from_parquet(
        str(folder / "chats.parquet"),
        cache_dir=str(folder / "cache"),
        keep_in_memory="memory" in way,
    )
    with tempfile.TemporaryDirectory() as out:
        arguments = SFTConfig(
            output_dir=out, report_to="none", use_cpu=True, bf16=False, packing=True,
            packing_strategy="bfd", max_length=LONGEST,
            dataset_num_proc=2 if "2 processes" in way else None,
        )  # fmt: skip
        holder = SimpleNamespace(
            _tokenizer=tokenizer, chat_template=None, completion_only_loss=True
        )
        begin = time.perf_counter()
        made = SFTTrainer._prepare_dataset(holder, data, tokenizer, arguments, True, None, "train")
        seconds = time.perf_counter() - begin

    def samples() -> Iterator[tuple[Any, Any]]:
        for row in made.with_format("numpy"):
            ends = np.cumsum(row["seq_lengths"])[:-1]
            yield from zip(
                np.split(row["input_ids"], ends), np.split(row["labels"], ends), strict=True
            )

    return {
        "seconds": seconds,
        "tokens": sum(map(sum, made["seq_lengths"])),
        "rows": len(made),
        "ids": _digest(samples()),
    }


def _digest(samples: Iterator[tuple[Any, Any]]) -> str:
    """Of ids and labels, whatever the samples' order."""
    each = sorted(
        hashlib.sha256(
            np.asarray(ids, dtype=np.int32).tobytes() + np.asarray(labels, dtype=np.int32).tobytes()
        ).hexdigest()
        for ids, labels in samples
    )
    return hashlib.sha256("".join(each).encode()).hexdigest()


def measure(folder: Path, way: str) -> None:
    """In this process: one way, once; prints what it took."""
    result = (ours if way == "tracestill" else trls)(folder, way)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    peak = usage.ru_maxrss + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print("RESULT " + json.dumps({**result, "peak_gb": round(peak * 1024 / 1e9, 2)}))


def once(folder: Path, way: str) -> dict[str, Any]:
    """One way in a process of its own; what datasets keeps on disk is fresh each time."""
    shutil.rmtree(folder / "cache", ignore_errors=True)
    command = [sys.executable, __file__, "--folder", str(folder), "--way", way]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    result: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    return result


def compare(text: Path, count: int, repeats: int) -> dict[str, Any]:
    """Every way `repeats` times, in turn."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as temporary:
        folder = Path(temporary)
        words = solutions(text)
        write_student(folder, words)
        write_traces(folder, words, count)
        results: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for _ in range(repeats):
            for way in WAYS:
                results[way].append(once(folder, way))
                print(way, json.dumps(results[way][-1]), flush=True)
    found = {one["ids"] for each in results.values() for one in each}
    assert len(found) == 1, "all ways make the same ids and labels"

    def rate(way: str, key: str = "seconds") -> float:
        return count / statistics.median(one[key] for one in results[way])

    rates = {way: rate(way) for way in WAYS}
    rates["tracestill, without checks"] = rate("tracestill", "seconds_without_checks")
    best = max(WAYS[1:], key=rates.__getitem__)
    mine = results["tracestill"][0]
    return {
        "samples": count,
        "tokens": mine["tokens"],
        "vocabulary": VOCABULARY,
        "max_length": LONGEST,
        "samples_per_second": {way: round(value, 1) for way, value in rates.items()},
        "trl's best": best,
        "times trl's best": round(rates["tracestill"] / rates[best], 2),
        "times trl's best, without checks": round(
            rates["tracestill, without checks"] / rates[best], 2
        ),
        "times each": {way: round(rates["tracestill"] / rates[way], 2) for way in WAYS[1:]},
        "fill": {
            way: mine["tokens"] / (each[0]["rows"] * LONGEST) for way, each in results.items()
        },
        "peak_gb": {way: max(one["peak_gb"] for one in each) for way, each in results.items()},
        "each": {way: [round(one["seconds"], 2) for one in each] for way, each in results.items()},
        "provenance": provenance(0),
    }


def main() -> None:
    """Compare, and write down what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULT, help="where the figures go")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        measure(options.folder, options.way)
        return
    if options.text is None:
        parser.error("--text FILE: the solutions that traces are made of")
    result = compare(options.text, options.samples, options.repeats)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
