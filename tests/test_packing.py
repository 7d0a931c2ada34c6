"""Samples in rows: none lost, none cut, none that sees another, whatever the attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from training import settings
from transformers import AutoConfig, AutoModelForCausalLM

from finetune import attention
from finetune.attention import supports
from finetune.loss import add_token_loss
from finetune.packing import (
    ANSWER,
    REASONING,
    AttentionLayout,
    batch,
    pack,
    steps,
    tensors,
)
from finetune.packing_check import check_packing
from finetune.sample import IGNORED, Sample
from finetune.student import load_student
from tracestill.recipe.finetune import Loss


def samples(count: int, seed: int = 0) -> list[Sample]:
    generator = np.random.default_rng(seed)
    made = []
    for index in range(count):
        prompt, reasoning, answer = generator.integers(2, 12, 3).tolist()
        ids = generator.integers(5, 100, prompt + reasoning + answer).astype(np.int32)
        made.append(
            Sample(trace_id=str(index), input_ids=ids, prompt=prompt, answer=prompt + reasoning)
        )
    return made


def test_packing_is_best_fit_and_loses_nothing() -> None:
    lengths = [5, 9, 3, 7, 1, 8, 2, 10]
    rows = pack(lengths, 10)
    assert sorted(i for row in rows for i in row) == list(range(8))
    assert all(sum(lengths[i] for i in row) <= 10 for row in rows)
    assert len(rows) == 5


def test_a_sample_takes_the_smallest_room_that_holds_it() -> None:
    # Rooms of 4, 3 and 2 are open when the samples of 3 and 2 come.
    assert pack([6, 7, 8, 3, 2], 10) == [[2, 4], [1, 3], [0]]


def test_each_epoch_takes_every_row_once_in_an_order_of_its_own() -> None:
    rows = [[index] for index in range(7)]
    made = steps(rows, 3, 2.0, seed=0)
    first, second = made[:3], made[3:]
    assert [len(step) for step in made] == [3, 3, 1, 3, 3, 1]
    assert sorted(row for step in first for row in step) == list(range(7))
    assert sorted(row for step in second for row in step) == list(range(7))
    assert first != second
    assert steps(rows, 3, 2.0, seed=0) == made
    assert steps(rows, 3, 0.5, seed=0) == made[:2]


def test_a_batch_learns_completions_and_tells_reasoning_from_answer() -> None:
    one = Sample(trace_id="a", input_ids=np.array([1, 2, 3, 4, 5], np.int32), prompt=2, answer=4)
    other = Sample(trace_id="b", input_ids=np.array([6, 7, 8], np.int32), prompt=1, answer=1)
    made = batch([one, other], [[0, 1]])
    assert made.ids.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert made.targets.tolist() == [IGNORED, 3, 4, 5, IGNORED, 7, 8, IGNORED]
    assert made.parts.tolist() == [0, REASONING, REASONING, ANSWER, 0, ANSWER, ANSWER, 0]
    assert made.positions.tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    assert made.learnt == 5


def loaded(kind: str, **more: Any) -> tuple[Any, AttentionLayout]:
    # On the CPU also where there is a GPU: the losses are compared exactly.
    chosen = settings(attention=kind, dtype="float32", liger=False, **more)
    student = load_student(chosen.student, chosen, 64)
    add_token_loss(student.model)
    return student.model.cpu().double(), student.layout


@pytest.mark.parametrize("kind", ["packed", "sdpa", "eager"])
def test_the_loss_of_packed_samples_is_that_of_the_samples_alone(kind: str) -> None:
    some = samples(12)
    model, layout = loaded(kind)
    rows = pack([len(sample.input_ids) for sample in some], 64)
    assert len(rows) < 12

    def losses(chosen: list[list[int]]) -> list[float]:
        made, _ = tensors(batch(some, chosen), layout, 0, "cpu")
        with torch.no_grad():
            return model(**made)[1].tolist()  # type: ignore[no-any-return]

    order = [index for row in rows for index in row]
    alone = [loss for index in order for loss in losses([[index]])]
    assert losses(rows) == pytest.approx(alone, abs=1e-6)


def test_the_loss_and_its_gradients_are_those_of_plain_logits() -> None:
    some = samples(4)
    model, layout = loaded("packed")
    made, _ = tensors(batch(some, [[0, 1], [2, 3]]), layout, 0, "cpu")
    total, each, _ = model(**made)
    total.backward()
    parameters = dict(model.named_parameters())
    found = {name: p.grad.clone() for name, p in parameters.items()}
    model.zero_grad()

    targets = made.pop("shift_labels")
    logits = model(**made, use_cache=False).logits
    plain = torch.nn.functional.cross_entropy(logits[0], targets[0], reduction="sum")
    plain.backward()
    assert float(total) == pytest.approx(float(plain), rel=1e-6)
    assert float(each.sum()) == pytest.approx(float(plain), rel=1e-6)
    for name, parameter in parameters.items():
        scale = float(parameter.grad.abs().max())
        assert torch.allclose(found[name], parameter.grad, atol=1e-5 * scale), name


@pytest.mark.parametrize("loss", ["nll", "dft"])
def test_chunks_do_not_change_the_loss(monkeypatch: pytest.MonkeyPatch, loss: Loss) -> None:
    import finetune.loss

    hidden = torch.randn(50, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(30, 8, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 30, (50,))
    whole, *_ = finetune.loss.token_loss(hidden, weight, None, targets, loss)
    by_hidden, by_weight = torch.autograd.grad(whole, [hidden, weight])
    monkeypatch.setattr(finetune.loss, "CHUNK_BYTES", 4 * 30 * 7)
    parts, *_ = finetune.loss.token_loss(hidden, weight, None, targets, loss)
    again = torch.autograd.grad(parts, [hidden, weight])
    assert float(parts) == pytest.approx(float(whole), rel=1e-6)
    assert torch.allclose(again[0], by_hidden, rtol=1e-5)
    assert torch.allclose(again[1], by_weight, rtol=1e-5, atol=1e-5)


def test_dft_weighs_each_token_by_its_probability() -> None:
    import finetune.loss

    torch.manual_seed(0)
    hidden = torch.randn(40, 8, requires_grad=True)
    weight, bias = torch.randn(30, 8, requires_grad=True), torch.randn(30, requires_grad=True)
    targets = torch.randint(0, 30, (40,))
    total, each, right = finetune.loss.token_loss(hidden, weight, bias, targets, "dft")
    found = torch.autograd.grad(3 * total, [hidden, weight, bias])
    plain = torch.nn.functional.cross_entropy(hidden @ weight.t() + bias, targets, reduction="none")
    weighted = (torch.exp(-plain).detach() * plain).sum()
    expected = torch.autograd.grad(3 * weighted, [hidden, weight, bias])
    assert float(total) == pytest.approx(float(weighted), rel=1e-5)
    assert torch.allclose(each, plain, atol=1e-5)
    assert torch.equal(right, (hidden @ weight.t() + bias).argmax(dim=1) == targets)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_the_packing_check_passes_on_an_attention_that_keeps_samples_apart() -> None:
    for kind in ("packed", "sdpa", "eager"):
        model, layout = loaded(kind)
        assert check_packing(model, samples(3), layout, 0) < 0.05


def test_the_packing_check_finds_an_attention_that_joins_samples() -> None:
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def joining(module: Any, q: Any, k: Any, v: Any, mask: Any, **more: Any) -> Any:
        return sdpa_attention_forward(module, q, k, v, None, **{**more, "is_causal": True})

    AttentionInterface.register("joining", joining)
    model, layout = loaded("packed")
    model.config._attn_implementation = "joining"
    with pytest.raises(ValueError, match=r"finetune\.packing: with joining attention, samples"):
        check_packing(model, samples(3), layout, 0)


def test_an_all_ones_mask_would_join_the_samples_of_a_row() -> None:
    # The trap that `tensors` avoids by sending no mask.
    some = samples(3)
    model, layout = loaded("sdpa")
    made, _ = tensors(batch(some, [[0, 1, 2]]), layout, 0, "cpu")
    assert "attention_mask" not in made
    with torch.no_grad():
        apart = model(**made)[1]
        joined = model(**made, attention_mask=torch.ones_like(made["input_ids"]))[1]
    assert not torch.allclose(apart, joined, atol=1e-4)


def test_windows_and_capped_scores_are_not_for_packed_attention() -> None:
    config = AutoConfig.from_pretrained(settings().student)
    assert supports(config, 4096)
    config.sliding_window, config.layer_types = 128, ["sliding_attention"] * 4
    assert supports(config, 128)
    assert not supports(config, 129)
    config.layer_types = None
    assert supports(config, 128)
    assert not supports(config, 129)
    config.sliding_window, config.attn_logit_softcapping = None, 30.0
    assert not supports(config, 16)


def test_granite_s_logits_are_divided_as_its_own_are() -> None:
    from transformers import GraniteConfig, GraniteForCausalLM

    config = GraniteConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, logits_scaling=8.0, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = GraniteForCausalLM(config)
    ids, labels = torch.randint(0, 64, (1, 12)), torch.randint(0, 64, (1, 12))
    with torch.no_grad():
        own = torch.nn.functional.cross_entropy(model(ids).logits[0], labels[0], reduction="sum")
        add_token_loss(model)
        total, *_ = model(ids, shift_labels=labels)
    assert total == pytest.approx(float(own), rel=1e-5)


def test_a_model_that_changes_its_logits_is_refused() -> None:
    model = AutoModelForCausalLM.from_pretrained(settings().student)
    model.config.final_logit_softcapping = 30.0
    with pytest.raises(ValueError, match="changes its logits"):
        add_token_loss(model)


def test_samples_that_are_attended_together_and_alone_make_one_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lengths = [3, 5, 40, 50, 7, 60, 2]
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(1, heads, sum(lengths), 8, generator=generator) for heads in (4, 2, 2)
    )
    module, calls = torch.nn.Module(), []
    alone, _ = attention._attend(module, query, key, value, None, segments=lengths)

    def together(query: Any, key: Any, value: Any, lengths: list[int], scale: Any) -> Any:
        calls.append(lengths)
        monkeypatch.setattr(attention, "takes_many", lambda *_: False)
        made, _ = attention._attend(module, query, key, value, None, segments=lengths)
        monkeypatch.setattr(attention, "takes_many", lambda *_: True)
        return made

    monkeypatch.setattr(attention, "LONG", 32)
    monkeypatch.setattr(attention, "takes_many", lambda *_: True)
    monkeypatch.setattr(attention, "attend_together", together)
    mixed, _ = attention._attend(module, query, key, value, None, segments=lengths)
    assert calls == [[3, 5], [7], [2]]
    torch.testing.assert_close(mixed, alone)
