"""What becomes of samples that are too long."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from rendering import examples, rendered, settings
from transformers import AutoConfig

from finetune.overlong import describe
from finetune.packing import batch, pack
from finetune.sample import IGNORED, Example
from finetune.sample_checks import check_samples


def long_examples() -> list[Example]:
    short = examples(4, source="short")
    long = Example(
        trace_id="long", prompt="x", reasoning="1 + 12\n" * 200, answer="12", source="hard"
    )
    return [*short, long]


def test_what_is_too_long_is_left_out_whole_and_counted(students: dict[str, Path]) -> None:
    _, made = rendered(students, "chatml-think", long_examples())
    assert [sample.trace_id for sample in made.samples] == ["t0", "t1", "t2", "t3"]
    assert made.dropped == {"overlong": 1}
    long = made.overlong
    details = json.loads(json.dumps(dataclasses.asdict(long)))
    kept = sum(len(sample.input_ids) for sample in made.samples)
    assert details["by_source"]["hard"]["share_of_tokens"] == 1.0
    assert details["by_source"]["short"]["long_traces"] == 0
    assert details["share_of_traces"] == 0.2
    assert details["mean_kept"] == kept / 4
    assert details["mean_long"] == details["long_tokens"] == details["longest"] > 512
    lines = describe(long)
    assert lines[0].startswith("1 of 5 traces are longer than 512 tokens: left out, 20.0% of the")
    assert any(line.startswith("  hard: 100.0% of the traces") for line in lines)
    _, none = rendered(students, "chatml-think", examples())
    assert describe(none.overlong) == []


def test_what_is_too_long_is_an_error_if_asked_for(students: dict[str, Path]) -> None:
    message = r"1 of 5 traces are longer .*; the longest, long, has .*overlong to drop or prefix"
    with pytest.raises(ValueError, match=message):
        rendered(students, "chatml-think", long_examples(), overlong="error")


@pytest.mark.parametrize("name", ["chatml-think", "qwen2.5", "teuken"])
def test_a_prefix_is_the_beginning_of_the_sample_without_an_end(
    students: dict[str, Path], name: str
) -> None:
    long = long_examples()[-1]
    _, whole = rendered(students, name, [long], max_length=4096)
    _, made = rendered(students, name, long_examples(), overlong="prefix")
    one, prefix = whole.samples[0], made.samples[-1]
    assert [sample.cut for sample in made.samples] == [False] * 4 + [True]
    assert prefix.trace_id == "long"
    assert len(prefix.input_ids) == 512
    assert (prefix.input_ids == one.input_ids[:512]).all()
    assert prefix.prompt == one.prompt
    assert (prefix.labels[: prefix.prompt] == IGNORED).all()
    assert (prefix.labels[prefix.prompt :] == one.input_ids[one.prompt : 512]).all()
    assert not {*made.endings} & {*prefix.input_ids[prefix.prompt :].tolist()}
    assert prefix.answer == 512, "the cut is in the reasoning"
    assert made.dropped == {}
    assert (made.overlong.long_traces, made.overlong.no_room) == (1, 0)
    assert made.overlong.cut_tokens == len(one.input_ids) - 512
    lines = describe(made.overlong)
    assert lines[0].startswith("1 of 5 traces are longer than 512 tokens: cut there, without a")
    assert f"{made.overlong.cut_tokens:,} tokens after the cuts are not trained on" in lines[-1]


def test_packed_prefixes_fit_their_rows_and_end_without_a_target(
    students: dict[str, Path],
) -> None:
    _, made = rendered(students, "chatml-think", long_examples(), overlong="prefix")
    samples = made.samples
    packed = pack([len(sample.input_ids) for sample in samples], 512)
    assert all(sum(len(samples[index].input_ids) for index in row) <= 512 for row in packed)
    targets = batch(samples, [[len(samples) - 1]]).targets
    assert targets[-1] == IGNORED
    assert targets[-2] == samples[-1].input_ids[-1]


def test_the_cut_can_fall_anywhere(students: dict[str, Path]) -> None:
    """In the think tag, in the reasoning, in a character, in the answer, before the stop token."""
    for name in ("qwen2.5", "teuken"):
        (example,) = examples(1)
        _, whole = rendered(students, name, [example])
        one = whole.samples[0]
        for length in range(one.prompt + 1, len(one.input_ids) + 1):
            tokenizer, made = rendered(
                students, name, [example], overlong="prefix", max_length=length
            )
            (sample,) = made.samples
            assert sample.cut == (length < len(one.input_ids))
            assert (sample.input_ids == one.input_ids[:length]).all()
            assert sample.answer == min(one.answer, length)
            config = AutoConfig.from_pretrained(students[name])
            check_samples(made, [example], tokenizer, config, system=None, max_length=length)


def test_a_prompt_that_leaves_no_room_is_left_out_and_counted(students: dict[str, Path]) -> None:
    huge = Example(trace_id="huge", prompt="1 + 12\n" * 200, reasoning="x", answer="y")
    _, made = rendered(students, "chatml-think", [*examples(4), huge], overlong="prefix")
    assert [sample.trace_id for sample in made.samples] == ["t0", "t1", "t2", "t3"]
    assert made.dropped == {"overlong": 1}
    assert describe(made.overlong)[-1] == "  1 left out, since the prompt alone is that long"
    with pytest.raises(ValueError, match=r"the prompt of every trace alone fills finetune\.max_l"):
        rendered(students, "chatml-think", [huge], overlong="prefix")


def test_a_recipe_that_splits_is_told_what_to_write() -> None:
    with pytest.raises(ValueError, match=r"split is no more.* write prefix") as told:
        settings("chatml-think", overlong="split")
    assert len(told.value.errors()) == 1  # type: ignore[attr-defined]
