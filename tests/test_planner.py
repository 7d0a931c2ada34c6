"""The planner against what transformers, peft, bitsandbytes and torch really do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from finetune.loss import add_token_loss
from finetune.planner import compare, explain_oom, flops_per_token, plan, read_shape, resolve
from finetune.planner.calibration import Calibration, read_calibration, write_calibration
from finetune.planner.devices import from_driver, named
from finetune.planner.known_shapes import known_config
from finetune.planner.measure import measure_step, training_device
from finetune.planner.memory import memory
from finetune.planner.options import needed
from finetune.planner.shape import FAMILIES
from finetune.planner.storages import storage_counter
from finetune.planner.terms import Load, trainable
from finetune.planner.trace import trace_step
from finetune.planner.unknown import shape_of
from finetune.student import add_adapter, load_student
from tests.planner_models import QWEN_1_5B, QWEN_7B, SMALL, STUDENT, settings, small


@pytest.mark.parametrize("kind", FAMILIES)
def test_counts_weights_as_transformers_and_peft_have_them(kind: str) -> None:
    config = small(kind)
    shape = read_shape(config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
        assert shape.parameters == sum(p.numel() for p in model.parameters())
        pattern = r".*\.self_attn\.(qk?v|[kv])_proj"
        for targets in ("all-linear", ["o_proj", "down_proj"], pattern):
            chosen = settings(lora={"rank": 4, "targets": targets})
            made = add_adapter(
                AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)), chosen
            )
            trained = sum(p.numel() for p in made.parameters() if p.requires_grad)
            assert trainable(shape, chosen) == trained


def test_says_which_students_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="qwen3_moe is a mixture of experts"):
        shape_of({**small("qwen3_moe"), "num_experts": 128})
    with pytest.raises(ValueError, match="transformers knows no such model"):
        shape_of(small("nobody_knows_it"))
    with pytest.raises(ValueError, match=r"config\.json has no 'hidden_size'"):
        read_shape({"model_type": "qwen2", "num_attention_heads": 2})
    with pytest.raises(ValueError, match=r"\[.wq.\] names none of q_proj"):
        plan(settings(lora={"targets": ["wq"]}), read_shape(QWEN_7B), named("H100"))


# Each kind of term is in one of them at least: norms by head, tied tables, an adapter on a part,
# dropout, 4 bits, float32, several samples a row, nothing from an earlier micro-batch, many logits.


CASES: list[tuple[str, dict[str, Any], list[int], dict[str, Any]]] = [
    ("qwen2", {"gradient_checkpointing": True}, [2048], {}),
    ("qwen2", {"gradient_checkpointing": False}, [2048], {}),
    ("qwen3", {"gradient_checkpointing": False}, [512] * 4, {}),
    ("qwen3", {"gradient_checkpointing": True, "method": "full"}, [2048], {}),
    ("llama", {"gradient_checkpointing": False, "method": "full"}, [2048], {"micro_batches": 1}),
    ("gemma", {"gradient_checkpointing": True}, [2048], {}),
    ("mistral", {"gradient_checkpointing": True, "activation_offload": True}, [2048], {}),
    ("qwen2", {"quantize": "nf4", "gradient_checkpointing": True}, [2048], {}),
    ("qwen2", {"quantize": "nf4", "gradient_checkpointing": False}, [1024] * 2, {}),
    ("qwen2", {"gradient_checkpointing": False}, [2048], {"bfloat16": False}),
    ("qwen2", {"gradient_checkpointing": False, "lora": {"dropout": 0.1}}, [2048], {}),
    ("llama", {"gradient_checkpointing": True}, [2048], {"vocabulary": 30_000}),
    ("qwen2", {"gradient_checkpointing": True, "method": "full"}, [2048], {"vocabulary": 30_000}),
    ("qwen2", {"gradient_checkpointing": False, "lora": {"targets": ["v_proj"]}}, [2048], {}),
    ("smollm3", {"gradient_checkpointing": True}, [1024], {}),
    ("gemma3_text", {"gradient_checkpointing": False}, [1024], {}),
    ("gemma3_text", {"gradient_checkpointing": True, "method": "full"}, [1024], {}),
    ("phi3", {"gradient_checkpointing": True}, [1024], {}),
    ("phi3", {"gradient_checkpointing": False, "method": "full"}, [1024], {}),
    ("ministral3", {"gradient_checkpointing": False}, [1024], {"bfloat16": False}),
    ("olmo2", {"gradient_checkpointing": True}, [1024], {}),
    ("olmo3", {"gradient_checkpointing": False, "method": "full"}, [1024], {}),
    ("granite", {"gradient_checkpointing": False}, [1024], {}),
]  # fmt: skip


# Those that `make test` takes: 4 bits, all weights of another family, norms by head.
QUICK = (2, 4, 8, 14, 15)


@pytest.mark.parametrize(
    ("kind", "values", "lengths", "how"),
    [
        case if number in QUICK else pytest.param(*case, marks=pytest.mark.slow)
        for number, case in enumerate(CASES)
    ],
)
def test_predicts_the_peak_of_the_real_step(
    kind: str, values: dict[str, Any], lengths: list[int], how: dict[str, Any]
) -> None:
    more = dict(how)
    words = more.pop("vocabulary", SMALL["vocab_size"])
    config, chosen = small(kind, num_hidden_layers=4, vocab_size=words), settings(**values)
    traced = trace_step(config, chosen, [lengths], **more)
    load = Load(
        tokens=sum(lengths),
        learnt=sum(lengths) - len(lengths),
        longest=max(lengths),
        accumulates=more.get("micro_batches", 2) > 1,
    )
    said = memory(read_shape(config), chosen, load, bfloat16=more.get("bfloat16", True))
    assert said.allocated == pytest.approx(traced.peak, rel=0.05)
    resting = said.weights + said.adapter + said.optimiser
    assert resting == pytest.approx(traced.resting, rel=0.01)


LFM2: dict[str, Any] = {
    "model_type": "lfm2", "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6,
    "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 512,
    "layer_types": ["conv", "full_attention"] * 3,
}  # fmt: skip


QWEN_HYBRID: dict[str, Any] = {
    "model_type": "qwen3_5_text", "hidden_size": 256, "intermediate_size": 1024,
    "num_hidden_layers": 12, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 32,
    "vocab_size": 512, "linear_num_key_heads": 4, "linear_num_value_heads": 8,
    "linear_key_head_dim": 32, "linear_value_head_dim": 32, "tie_word_embeddings": True,
}  # fmt: skip


GRANITE_HYBRID: dict[str, Any] = {
    "model_type": "granitemoehybrid", "hidden_size": 256, "intermediate_size": 1024,
    "shared_intermediate_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 8,
    "num_key_value_heads": 2, "vocab_size": 512, "num_local_experts": 0, "mamba_n_heads": 16,
    "layer_types": ["mamba", "mamba", "mamba", "attention"] * 2, "mamba_d_head": 32,
    "mamba_d_state": 32, "position_embedding_type": "nope",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [small("starcoder2", num_hidden_layers=4), LFM2, QWEN_HYBRID, GRANITE_HYBRID],
    ids=["starcoder2", "lfm2", "qwen3_5", "granite4"],
)
def test_traces_a_model_without_formulas_by_a_few_layers_and_tokens(config: dict[str, Any]) -> None:
    shape, chosen = shape_of(config), settings(gradient_checkpointing=True, micro_batch=1)
    traced = trace_step(config, chosen, [[1536]])
    load = Load(tokens=1536, learnt=1535, longest=1536, accumulates=True)
    said = needed(shape, chosen, named("24GB"), load)
    assert said.allocated == pytest.approx(traced.peak, rel=0.1)
    assert said.weights + said.adapter + said.optimiser == pytest.approx(traced.resting, rel=0.01)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    assert shape.parameters == sum(p.numel() for p in model.parameters())


# Billions of weights, as the makers say on each model's page.


SIZES = {
    "Qwen/Qwen2.5-0.5B-Instruct": 0.49, "Qwen/Qwen2.5-7B": 7.61, "Qwen/Qwen2.5-72B": 72.7,
    "Qwen/Qwen3-0.6B": 0.6, "Qwen/Qwen3-4B-Instruct-2507": 4.0, "Qwen/Qwen3-32B": 32.8,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": 1.78, "meta-llama/Llama-3.2-1B": 1.23,
    "meta-llama/Llama-3.2-3B-Instruct": 3.21, "meta-llama/Meta-Llama-3.1-8B-Instruct": 8.03,
    "meta-llama/Llama-3.3-70B-Instruct": 70.6, "HuggingFaceTB/SmolLM2-135M-Instruct": 0.135,
    "HuggingFaceTB/SmolLM2-360M": 0.362, "HuggingFaceTB/SmolLM2-1.7B-Instruct": 1.71,
    "HuggingFaceTB/SmolLM3-3B": 3.08, "google/gemma-3-270m-it": 0.268, "google/gemma-3-1b-it": 1.0,
    "microsoft/Phi-4-mini-instruct": 3.84, "microsoft/phi-4": 14.7,
    "mistralai/Mistral-7B-Instruct-v0.3": 7.25, "mistralai/Ministral-8B-Instruct-2410": 8.02,
    "allenai/OLMo-2-0425-1B-Instruct": 1.48, "allenai/OLMo-2-1124-7B": 7.3,
    "allenai/OLMo-2-1124-13B-Instruct": 13.7, "ibm-granite/granite-3.3-2b-instruct": 2.53,
    "ibm-granite/granite-3.3-8b-instruct": 8.17, "open-r1/Qwen2.5-Math-7B-RoPE-300k": 7.62,
}  # fmt: skip


@pytest.mark.parametrize(("name", "billions"), SIZES.items())
def test_knows_the_sizes_of_well_known_students(name: str, billions: float) -> None:
    config = known_config(name)
    assert config is not None
    assert read_shape(config).parameters / 1e9 == pytest.approx(billions, rel=0.02)


def test_a_name_that_only_looks_well_known_is_not() -> None:
    for name in ("some/Qwen2.5-7B-pruned", "mistralai/Ministral-3-8B-Base-2512", "some/student"):
        assert known_config(name) is None


def test_counts_each_storage_as_long_as_it_lives() -> None:
    there = torch.zeros(1000)
    with storage_counter()(there=[there]) as storages:
        first = torch.zeros(128)  # 512 bytes
        view = first[3:].view(5, 25)
        assert storages.live == 512
        second = torch.zeros(129)  # two blocks
        seen = there * 1.0  # 4,000 bytes: eight blocks
        assert storages.live == 512 + 1024 + 4096
        del second, seen, first
        assert storages.live == 512, "a view keeps its storage"
        del view
        assert (storages.live, storages.peak) == (0, 512 + 1024 + 4096)


@pytest.mark.parametrize(
    "values", [{"gradient_checkpointing": False}, {"gradient_checkpointing": True},
               {"gradient_checkpointing": False, "method": "full"}],
)  # fmt: skip
def test_a_measured_step_is_real_and_leaves_no_trace(values: dict[str, Any]) -> None:
    chosen = settings(**values)
    shape = read_shape(json.loads((STUDENT / "config.json").read_text()))
    student = load_student(str(STUDENT), chosen, 768)
    model = add_adapter(student.model, chosen)
    add_token_loss(model.get_base_model() if chosen.method == "lora" else model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    device = training_device()

    def step_bytes(step: Callable[[], None]) -> int:
        """As a CPU can: what a process holds says little of its tensors."""
        there = [*model.parameters(), *model.buffers()]
        there += [tensor.grad for tensor in model.parameters() if tensor.grad is not None]
        with storage_counter()(there=there) as storages:
            step()
        return int(storages.peak)

    found = measure_step(model, chosen, shape, device, student.layout, 768, step_bytes)
    assert found.memory == pytest.approx(1.0, abs=0.1)
    assert found.speed > 0
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_was_measured_is_kept_and_used(tmp_path: Path) -> None:
    measured = Calibration(device="H100", memory=2.0, speed=0.5, tokens=4096)
    write_calibration(tmp_path, measured)
    assert read_calibration(tmp_path, "H100") == measured
    assert read_calibration(tmp_path, "H200") is None
    assert read_calibration(tmp_path / "none", "H100") is None
    shape, device = read_shape(QWEN_1_5B), named("H100")
    chosen = settings(gradient_checkpointing=True, micro_batch=1, max_length=8192)
    plain = plan(chosen, shape, device)
    scaled = plan(chosen, shape, device, calibration=measured)
    assert scaled.memory.activations == 2 * plain.memory.activations
    assert scaled.memory.weights == plain.memory.weights
    assert plain.tokens_per_second is not None
    assert scaled.tokens_per_second == pytest.approx(plain.tokens_per_second / 2, rel=0.05)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_counts_operations_as_torch_does(method: str) -> None:
    config, tokens = small("qwen2", num_hidden_layers=6), 256
    chosen, shape = settings(method=method), read_shape(small("qwen2", num_hidden_layers=6))
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(**config), attn_implementation="eager"
    )
    model = add_adapter(model, chosen)
    add_token_loss(model.get_base_model() if method == "lora" else model)
    ids = torch.randint(0, 100, (1, tokens))
    with FlopCounterMode(display=False) as counter:
        loss, *_ = model(input_ids=ids, position_ids=torch.arange(tokens)[None], shift_labels=ids)
        loss.backward()
    # Eager attention computes the half above the diagonal too.
    above = 6 * tokens * shape.queries * shape.layers
    counted = counter.get_total_flops() / tokens - above
    # The first layer's input has no gradient where all before it is frozen: torch leaves it out.
    assert flops_per_token(shape, chosen, [tokens]) == pytest.approx(counted, rel=0.03)


@pytest.mark.parametrize(
    ("name", "card", "gigabytes"),
    [("24GB", "a GPU of 24 GB", 24), ("H200", "H200", 141), ("RTX 4090", "RTX 4090", 24),
     ("4090", "RTX 4090", 24), ("A100-80GB", "A100 80GB", 80), ("a100", "A100 80GB", 80),
     ("NVIDIA A100-SXM4-40GB", "A100 40GB", 40), ("NVIDIA H100 80GB HBM3", "H100", 80),
     ("NVIDIA H100 PCIe", "H100 PCIe", 80), ("L40S", "L40S", 48), ("l4", "L4", 24),
     ("NVIDIA GeForce RTX 4090", "RTX 4090", 24), ("A10G", "A10G", 24)],
)  # fmt: skip
def test_knows_devices_by_the_names_people_and_drivers_use(
    name: str, card: str, gigabytes: int
) -> None:
    device = named(name)
    assert device.name == card
    assert device.memory == pytest.approx(gigabytes * 2**30, rel=0.02)
    assert (device.flops is None) == card.startswith("a GPU")


def test_a_device_that_is_there_has_its_own_memory() -> None:
    device = from_driver("NVIDIA H100 80GB HBM3", 85_000_000_000)
    assert (device.memory, device.flops) == (85_000_000_000, 989e12)
    assert from_driver("NVIDIA Thing 9", 10**10).flops is None
    for wrong, said in (("T4", "no bfloat16"), ("H10", "not known"), ("many", "not known")):
        with pytest.raises(ValueError, match=said):
            named(wrong)


def test_auto_quantises_and_checkpoints_only_where_it_must() -> None:
    shape = read_shape(QWEN_7B)
    chosen, why = resolve(settings(quantize="auto"), shape, named("24GB"))
    assert (chosen.quantize, chosen.gradient_checkpointing) == ("nf4", True)
    assert [line.partition(":")[0] for line in why] == [
        "quantize", "gradient_checkpointing", "micro_batch"
    ]  # fmt: skip
    chosen, _ = resolve(settings(quantize="auto"), shape, named("H200"))
    assert chosen.quantize == "none"
    chosen, _ = resolve(settings(max_length=2048), read_shape(QWEN_1_5B), named("H200"))
    assert chosen.gradient_checkpointing is False
    assert isinstance(chosen.micro_batch, int)
    asked = settings(micro_batch=3, gradient_checkpointing=True)
    assert resolve(asked, shape, named("24GB")) == (asked, [])


def test_auto_micro_batch_holds_what_a_step_has() -> None:
    shape, device = read_shape(QWEN_1_5B), named("H200")
    few = [300] * 10  # three rows in all
    chosen, _ = resolve(settings(max_length=1024, batch_size=8), shape, device, few)
    assert isinstance(chosen.micro_batch, int)
    assert 1 <= chosen.micro_batch <= 3
    spread = settings(max_length=1024, batch_size=8, launch={"gpus": 4})
    chosen, _ = resolve(spread, shape, device)
    assert isinstance(chosen.micro_batch, int)
    assert 1 <= chosen.micro_batch <= 2


@pytest.mark.parametrize(
    ("config", "gpu", "values"),
    [(QWEN_7B, "24GB", {"max_length": 8192, "gradient_checkpointing": False, "micro_batch": 2}),
     (QWEN_7B, "RTX 4090", {"max_length": 32768}),
     (QWEN_7B, "A100-80GB", {"method": "full"}),
     (QWEN_1_5B, "16GB", {"max_length": 131072})],
)  # fmt: skip
def test_each_change_makes_it_fit(config: dict[str, Any], gpu: str, values: dict[str, Any]) -> None:
    shape, device = read_shape(config), named(gpu)
    lengths = [2000] * 300 + [7000] * 30
    made = plan(settings(**values), shape, device, lengths)
    assert not made.fits
    assert made.changes
    for change in made.changes:
        then = plan(change.settings, shape, device, lengths)
        assert then.fits, change.text
        assert then.memory.total == change.memory
        if made.hours and then.hours and not change.dropped:
            assert then.hours / made.hours == pytest.approx(change.times, rel=0.01)


def test_the_cheapest_change_comes_first_and_shorter_rows_last() -> None:
    shape = read_shape(QWEN_7B)
    wasteful = settings(max_length=8192, gradient_checkpointing=False, micro_batch=1)
    made = plan(wasteful, shape, named("24GB"), [4000] * 100)
    assert made.changes[0].text == "gradient_checkpointing: true"
    lengths = [4000] * 90 + [100_000] * 10
    long = settings(max_length=131072, quantize="nf4", activation_offload=True)
    made = plan(long, shape, named("24GB"), lengths)
    shorter = made.changes[0]
    assert shorter.text.startswith("max_length: ")
    assert shorter.dropped == 10
    hopeless = plan(settings(quantize="nf4"), read_shape({**QWEN_7B, "num_hidden_layers": 400}),
                    named("16GB"))  # fmt: skip
    assert not hopeless.fits
    assert not hopeless.changes


def test_hours_follow_the_tokens() -> None:
    shape, device = read_shape(QWEN_1_5B), named("H100")
    chosen = settings(max_length=8192, epochs=2)
    once = plan(chosen, shape, device, [4000] * 400)
    twice = plan(chosen, shape, device, [4000] * 800)
    assert once.tokens == 2 * 400 * 4000
    assert once.hours is not None
    assert twice.hours == pytest.approx(2 * once.hours, rel=0.05)
    assert once.mfu is not None
    assert 0.1 < once.mfu < 0.65
    assert plan(chosen, shape, device).hours is None
    with pytest.raises(ValueError, match="every sample is longer than finetune"):
        plan(chosen, shape, device, [9000])


def test_explains_what_took_the_memory_in_a_line() -> None:
    shape, device = read_shape(QWEN_7B), named("RTX 4090")
    made = plan(settings(max_length=8192, gradient_checkpointing=False), shape, device)
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.10 GiB. GPU 0 has …")
    line = explain_oom(made, error, 1)
    assert "\n" not in line
    for part in ("2.10 GiB more", "1 row (8,192 tokens)", "RTX 4090", "activations", "weights",
                 "set gradient_checkpointing: true"):  # fmt: skip
        assert part in line
    # It was said to fit, and did not: what is proposed takes less than what failed.
    fits = plan(settings(max_length=4096, gradient_checkpointing=True, micro_batch=1),
                shape, named("24GB"))  # fmt: skip
    assert fits.fits
    assert "set quantize: nf4" in explain_oom(fits, error, 1)


def test_compares_what_was_said_with_what_was_measured() -> None:
    made = plan(settings(micro_batch=1, gradient_checkpointing=True), read_shape(QWEN_1_5B),
                named("H100"))  # fmt: skip
    actual = made.memory.allocated / 1.1
    found = compare(made, 1000.0, actual)
    assert found["memory_bytes"].difference == pytest.approx(0.1, abs=1e-3)
    assert found["tokens_per_second"].actual == 1000.0
    assert compare(made, 0.0) == {}
