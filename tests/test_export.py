"""What is exported, and that the checks let nothing else through: real trl, peft, vLLM, nf4."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import training
from peft import PeftModel
from safetensors.torch import load_file, save_file
from training import ROOT, STUDENT, TEMPLATE, examples
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

import finetune.export
import finetune.merge
from finetune import export_checks
from finetune.export import export
from finetune.export_checks import Predictions, check_weights, compare, load_whole, predict
from finetune.render import render
from finetune.sample import Sample
from finetune.student import add_adapter, load_student
from finetune.tokenizer import load_tokenizer
from finetune.train import Trained, train
from tracestill.recipe.contract import read_contract
from tracestill.recipe.finetune import FinetuneSection, Lora
from tracestill.records import Progress
from tracestill.stages.evaluate import dtype_for_vllm

STOP = 259


def settings(**values: Any) -> FinetuneSection:
    return training.settings(**{"checkpoint_every": 3, **values})


def trained(folder: Path, progress: Any = None, count: int = 24, **values: Any) -> Trained:
    wanted = settings(**values)
    return train(
        examples(count), wanted, student=wanted.student, template=TEMPLATE, folder=folder, seed=0,
        progress=progress or (lambda event: None),
    )  # fmt: skip


def samples() -> list[Sample]:
    tokenizer = load_tokenizer(str(STUDENT), None, TEMPLATE)
    contract = read_contract(TEMPLATE, settings())
    return render(examples(4), tokenizer, contract, settings()).samples


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trained]:
    """A student that has learnt to reason and to end, and what was said of it."""
    folder = tmp_path_factory.mktemp("lora")
    return folder, trained(folder, epochs=25)


@pytest.fixture
def spoiled(lora: tuple[Path, Trained], tmp_path: Path) -> Path:
    """A copy of its export, to be spoiled."""
    for name in ("adapter", "merged"):
        shutil.copytree(lora[0] / name, tmp_path / name)
    return tmp_path


def plain(path: Path | str = STUDENT) -> Any:
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


def test_merged_weights_are_those_of_peft_rounded_once(lora: tuple[Path, Trained]) -> None:
    folder, made = lora
    details = made.figures.export
    expected = PeftModel.from_pretrained(plain(), folder / "adapter").merge_and_unload()
    saved = load_file(folder / "merged" / "model.safetensors")
    assert saved.keys() == load_file(STUDENT / "model.safetensors").keys()
    for name, weight in expected.named_parameters():
        assert torch.equal(saved[name], weight.to(torch.bfloat16)), name
    assert details.parameters == sum(p.numel() for p in expected.parameters()) == 895_616
    assert details.dtype == "bfloat16"
    adapter = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert {weight.dtype for weight in adapter.values()} == {torch.float32}


def test_the_figures_say_what_the_checks_saw(lora: tuple[Path, Trained]) -> None:
    details = lora[1].figures.export
    assert details.logit_difference < 0.02
    assert details.adapter_kept == pytest.approx(1, abs=0.02)
    assert details.loss_merged == pytest.approx(details.loss_trained, abs=0.01)
    assert details.max_lora_rank == 8
    assert (details.answers.generations, details.answers.ended) == (3, 3)
    assert details.answers.tokens > 0
    assert details.findings == lora[1].notes == []


def test_an_answer_that_does_not_end_is_told_and_no_error(tmp_path: Path) -> None:
    # Nearly untrained, with a stop token that the student never wrote.
    made = trained(tmp_path, stop="<|user|>", epochs=0.1, learning_rate=1e-6)
    details = made.figures.export
    assert details.answers.ended < 3
    assert "greedy answers did not end by themselves within" in details.findings[-1]
    assert details.findings[-1] in made.notes


def test_large_models_are_written_in_parts(
    lora: tuple[Path, Trained], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = load_file(lora[0] / "merged" / "model.safetensors")
    monkeypatch.setattr(finetune.merge, "_SHARD_BYTES", 500_000)
    assert finetune.merge.write_weights(iter(weights.items()), tmp_path) == 895_616
    shutil.copy(lora[0] / "merged" / "config.json", tmp_path)
    parts = sorted(tmp_path.glob("*.safetensors"))
    assert len(parts) > 2
    assert all(part.stat().st_size < 550_000 for part in parts)
    one, other = plain(tmp_path).state_dict(), plain(lora[0] / "merged").state_dict()
    assert all(torch.equal(one[name], other[name]) for name in other)


def change(path: Path, name: str, weight: Any) -> None:
    weights = load_file(path)
    if weight is None:
        del weights[name]
    else:
        weights[name] = weight(weights[name])
    save_file(weights, path, metadata={"format": "pt"})


def looked_at(folder: Path) -> None:
    """The checks of the weights, as after an export."""
    model = PeftModel.from_pretrained(plain(), folder / "adapter")
    seen = predict(model, samples())
    with model.disable_adapter():
        base = predict(model, samples())
    again = load_whole(folder / "merged", settings(), torch.bfloat16)
    check_weights(folder / "merged", compare(predict(again, samples()), seen, base))


def test_the_checks_pass_what_was_trained(spoiled: Path) -> None:
    looked_at(spoiled)


@pytest.mark.parametrize("layer", [0, 3])
def test_a_spoiled_weight_is_caught(spoiled: Path, layer: int) -> None:
    name = f"model.layers.{layer}.mlp.down_proj.weight"
    change(spoiled / "merged" / "model.safetensors", name, lambda weight: weight.roll(1, dims=0))
    with pytest.raises(RuntimeError, match="are not what was trained"):
        looked_at(spoiled)


def test_a_merge_without_the_adapter_is_caught(spoiled: Path) -> None:
    shutil.copy(STUDENT / "model.safetensors", spoiled / "merged" / "model.safetensors")
    with pytest.raises(RuntimeError, match="are not what was trained"):
        looked_at(spoiled)


def test_an_adapter_of_little_effect_that_is_not_merged_is_caught() -> None:
    """Where training changed less than what rounding does, the direction of the change tells."""
    generator = torch.Generator().manual_seed(0)

    def random(size: float) -> Any:
        return torch.randn(1000, 320, generator=generator) * size

    before = random(1.0)
    base, seen = (Predictions(logits=logits, loss=1) for logits in (before, before + random(0.01)))
    rounded = Predictions(logits=seen.logits + random(0.02), loss=1)
    forgotten = Predictions(logits=before + random(0.02), loss=1)
    kept = export_checks.adapter_kept
    assert kept(rounded, seen, base) == pytest.approx(1, abs=0.05)
    assert kept(forgotten, seen, base) == pytest.approx(0, abs=0.05)
    check_weights(Path(), compare(rounded, seen, base))
    with pytest.raises(RuntimeError, match="are not what was trained"):
        check_weights(Path(), compare(forgotten, seen, base))
    assert not compare(rounded, seen, base).is_rounded_away
    partly = Predictions(logits=(before + 3 * seen.logits) / 4, loss=1)
    near = compare(partly, seen, base)
    assert near.adapter_kept == pytest.approx(0.75, abs=0.01)
    assert near.is_rounded_away


def test_a_loss_that_rounding_raises_is_seen() -> None:
    logits = torch.randn(10, 32, generator=torch.Generator().manual_seed(0))
    base, trained, off = (Predictions(logits=logits, loss=loss) for loss in (1.0, 0.9, 0.95))
    assert compare(off, trained, base).is_rounded_away
    assert not compare(trained, trained, base).is_rounded_away


def test_what_a_short_training_learnt_is_kept_in_float32(tmp_path: Path) -> None:
    """Two steps at the default rate change most weights by less than bfloat16 can tell."""
    made = trained(tmp_path, count=2, epochs=1, batch_size=1, packing=False, learning_rate="auto")
    details = made.figures.export
    assert made.figures.steps == 2
    assert details.dtype == "float32"
    assert details.adapter_kept == pytest.approx(1, abs=0.02)
    weights = load_file(tmp_path / "merged" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert dtype_for_vllm(tmp_path / "merged") == "float32"
    (said,) = [line for line in made.notes if line.startswith("merged/ is in float32")]
    assert "of what the adapter changes: serve it with `--dtype float32`" in said


def test_answers_that_the_clock_stopped_are_told_from_those_that_do_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetune.export, "_SECONDS", 0.0)
    details = trained(tmp_path, epochs=0.1).figures.export
    assert (details.answers.ended, details.answers.out_of_time) == (0, 3)
    said = details.findings[-1]
    assert "had not ended when the check's 0 seconds were over, after 1 tokens" in said
    assert "more traces" not in " ".join(details.findings)


def test_a_missing_weight_is_caught(spoiled: Path) -> None:
    name = "model.layers.1.self_attn.q_proj.bias"
    change(spoiled / "merged" / "model.safetensors", name, None)
    with pytest.raises(RuntimeError, match="does not hold the model's weights"):
        looked_at(spoiled)


def ends(folder: Path) -> None:
    again = load_whole(folder / "merged", settings(), torch.bfloat16)
    tokenizer = load_tokenizer(str(STUDENT), None, TEMPLATE)
    export_checks.check_turn_end(folder / "merged", tokenizer, again, STOP, settings())


def test_a_stop_token_that_ends_nothing_is_an_error(spoiled: Path) -> None:
    ends(spoiled)
    GenerationConfig(eos_token_id=256).save_pretrained(spoiled / "merged")
    with pytest.raises(RuntimeError, match=r"would not stop at <\|end\|>"):
        ends(spoiled)


def test_another_template_is_an_error(spoiled: Path) -> None:
    template = spoiled / "merged" / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    with pytest.raises(RuntimeError, match="without the trained chat template"):
        ends(spoiled)


def test_the_student_keeps_how_it_samples_and_loses_its_limits(tmp_path: Path) -> None:
    model = plain()
    model.generation_config = GenerationConfig(
        temperature=0.6, top_p=0.95, max_new_tokens=2048, repetition_penalty=1.1, eos_token_id=256
    )
    tokenizer = load_tokenizer(str(STUDENT), None, TEMPLATE)
    tokenizer.eos_token = "<|endoftext|>"
    finetune.merge.write_turns(model, tokenizer, tmp_path, [STOP, 256], 256)
    saved = json.loads((tmp_path / "generation_config.json").read_text())
    del saved["transformers_version"]
    assert saved == {
        "do_sample": True, "temperature": 0.6, "top_p": 0.95, "eos_token_id": [STOP, 256],
        "pad_token_id": 256,
    }  # fmt: skip
    assert AutoTokenizer.from_pretrained(tmp_path).eos_token == "<|end|>"


def test_all_weights_are_saved_in_16_bits_without_an_adapter(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()  # of an earlier run with other settings
    figures = trained(tmp_path, method="full", learning_rate=3e-4).figures
    assert not (tmp_path / "adapter").exists()
    weights = load_file(tmp_path / "merged" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
    assert figures.trainable_parameters == figures.export.parameters == 895_616
    assert figures.export.logit_difference < 0.02
    assert figures.export.adapter_kept is None


def test_dora_is_merged_and_said_to_be_beyond_vllm(tmp_path: Path) -> None:
    details = trained(tmp_path, lora=Lora(rank=8, alpha=16, dora=True)).figures.export
    assert details.adapter_kept == pytest.approx(1, abs=0.02)
    assert "vLLM can't load the adapter, since it is DoRA" in details.findings[0]


def test_rank_stabilised_adapters_are_merged_at_their_scale(tmp_path: Path) -> None:
    details = trained(tmp_path, lora=Lora(rank=8, alpha=16, rslora=True)).figures.export
    assert details.adapter_kept == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("values", "rank"),
    [
        ({"r": 8}, 8),
        ({"r": 2}, 8),
        ({"r": 20}, 32),
        ({"r": 8, "rank_pattern": {"q_proj": 40}}, 64),
        ({"r": 300}, 320),
        ({"r": 600}, None),
        ({"r": 8, "use_rslora": True}, 8),
        ({"r": 8, "use_dora": True}, None),
        ({"r": 8, "modules_to_save": ["lm_head"]}, None),
        ({"r": 8, "modules_to_save": ["score"]}, 8),
        ({"r": 8, "bias": "all"}, None),
        ({"r": 8, "lora_bias": True}, None),
    ],
)
def test_the_rules_are_those_of_vllms_loader(
    tmp_path: Path, values: dict[str, Any], rank: int | None
) -> None:
    from vllm.config.lora import LoRAConfig
    from vllm.lora.peft_helper import PEFTHelper

    config = {"lora_alpha": 16, "target_modules": ["q_proj"], **values}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    fit = export_checks.vllm_fit(tmp_path)
    helper = PEFTHelper.from_local_dir(str(tmp_path), None)
    if rank is None:
        assert fit.refused
        with pytest.raises(ValueError, match=r"."):
            helper.validate_legal(LoRAConfig(max_lora_rank=512))
        return
    assert (fit.refused, fit.max_lora_rank) == ([], rank)
    helper.validate_legal(LoRAConfig(max_lora_rank=rank))
    below = {8: 1, 32: 16, 64: 32, 320: 256}[rank]
    with pytest.raises(ValueError, match="greater than max_lora_rank"):
        helper.validate_legal(LoRAConfig(max_lora_rank=below))


# vLLM has a process of its own, as it keeps its memory until that ends.
SERVED = """
import json, os, sys
os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1",
               "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
model, adapter, prompts = json.loads(sys.argv[1])
from vllm import LLM, SamplingParams, TokensPrompt
from vllm.lora.request import LoRARequest
more = {}
if adapter:
    more = {"enable_lora": True, "max_lora_rank": 8, "generation_config": adapter}
llm = LLM(model, dtype="float32", enforce_eager=True, max_model_len=256, max_num_seqs=4, **more)
made = llm.generate([TokensPrompt(prompt_token_ids=p) for p in prompts],
                    SamplingParams(temperature=0, max_tokens=100), use_tqdm=False,
                    lora_request=LoRARequest("student", 1, adapter) if adapter else None)
answers = [output.outputs[0] for output in made]
print("MADE", json.dumps([[a.finish_reason, list(a.token_ids)] for a in answers]))
"""


def served(model: Path, prompts: list[list[int]], adapter: Path | None = None) -> Any:
    asked = json.dumps([str(model), str(adapter) if adapter else None, prompts])
    done = subprocess.run(
        [sys.executable, "-c", SERVED, asked], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.rpartition("MADE ")[2])


@pytest.mark.slow
def test_vllm_and_transformers_end_at_the_stop_token(
    lora: tuple[Path, Trained], tmp_path: Path
) -> None:
    folder, _ = lora
    prompts = [sample.input_ids[: sample.prompt].tolist() for sample in samples()]
    merged = plain(folder / "merged")
    expected = []
    for prompt in prompts:
        made = merged.generate(torch.tensor([prompt]), max_new_tokens=100, do_sample=False)
        expected.append(["stop", made[0, len(prompt) :].tolist()])
    assert all(ids.index(STOP) == len(ids) - 1 for _, ids in expected)
    assert served(folder / "merged", prompts) == expected
    # The student's own configs name another end, as base models' do: the adapter's folder has the
    # right one.
    base = Path(shutil.copytree(STUDENT, tmp_path / "base"))
    GenerationConfig(eos_token_id=256).save_pretrained(base)
    for name in ("config.json", "tokenizer_config.json"):
        values = json.loads((base / name).read_text())
        values |= {"eos_token_id": 256} if name == "config.json" else {"eos_token": "<|endoftext|>"}
        (base / name).write_text(json.dumps(values))
    assert served(base, prompts, folder / "adapter") == expected


@pytest.mark.parametrize("name", ["adapter", "merged"])
def test_exported_files_are_on_the_disk_before_they_have_their_name(
    lora: tuple[Path, Trained], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A loss of power after the rename must not leave a folder with empty files."""
    events: list[int | str] = []
    rename, fsync = Path.rename, os.fsync

    def renamed(self: Path, target: Path) -> Path:
        if self.is_dir():
            events.append(f"rename {target.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(os.fstat(fd).st_ino), fsync(fd)))
    monkeypatch.setattr(Path, "rename", renamed)
    model = PeftModel.from_pretrained(plain(), lora[0] / "adapter")
    export(
        model, load_tokenizer(str(STUDENT), None, TEMPLATE), settings(), student=str(STUDENT),
        folder=tmp_path, samples=samples(), ends=[STOP],
    )  # fmt: skip
    at = events.index(f"rename {name}")
    files = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
    assert len(files) > 3
    for path in [tmp_path / name, *files]:
        assert path.stat().st_ino in events[:at], path
    assert events[at + 1] == tmp_path.stat().st_ino, "the rename itself"


class StoppedError(Exception):
    pass


@pytest.fixture(scope="module")
def qlora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trained]:
    folder = tmp_path_factory.mktemp("qlora")
    return folder, trained(folder, quantize="nf4")


def test_qlora_merges_into_the_weights_that_it_was_trained_on(
    qlora: tuple[Path, Trained],
) -> None:
    folder, details = qlora[0], qlora[1].figures.export
    assert details.logit_difference_original is not None
    assert details.logit_difference < 0.02 < details.logit_difference_original
    assert details.loss_merged == pytest.approx(details.loss_trained, abs=0.01)
    assert details.loss_original is not None
    assert details.loss_original > 0
    assert details.parameters == 895_616
    config = json.loads((folder / "merged" / "config.json").read_text())
    assert "quantization_config" not in config
    model = add_adapter(load_student(str(STUDENT), settings(quantize="nf4"), 64).model, settings())
    model.load_adapter(folder / "adapter", "default")
    saved = load_file(folder / "merged" / "model.safetensors")
    layer = model.get_base_model().model.layers[0].mlp.up_proj
    one = torch.eye(layer.in_features)
    # What the layer does to each unit vector is its weight: by bitsandbytes' and peft's own code.
    expected = (layer(one) - layer(torch.zeros_like(one))).t()
    written = saved["model.layers.0.mlp.up_proj.weight"].float()
    assert (written - expected).abs().max() < 2**-8 * expected.abs().max()


def test_adapters_of_a_quantised_student_stay_in_float32(
    qlora: tuple[Path, Trained],
) -> None:
    adapter = load_file(qlora[0] / "adapter" / "adapter_model.safetensors")
    assert {weight.dtype for weight in adapter.values()} == {torch.float32}
    # Trained in it, not only saved in it: hardly any value is one that bfloat16 has too.
    weight = torch.cat([w.flatten() for name, w in adapter.items() if "lora_B" in name])
    assert (weight == weight.bfloat16().float()).float().mean() < 0.1


def test_gradients_pass_a_quantised_student_after_an_evaluation() -> None:
    """bitsandbytes lays weights out anew for a CPU when it first evaluates, without gradients."""
    ids = torch.from_numpy(samples()[0].input_ids).long()[None]

    def gradients(evaluate: bool) -> dict[str, Any]:
        torch.manual_seed(0)
        model = load_student(str(STUDENT), settings(quantize="nf4"), 64).model
        model = add_adapter(model, settings())
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.02)
        if evaluate:
            predict(model, samples()[:1])
        model.train()
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        return {n: p.grad for n, p in model.named_parameters() if p.requires_grad}

    once, again = gradients(evaluate=False), gradients(evaluate=True)
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert all(gradient.abs().sum() > 0 for gradient in once.values())


def test_a_stopped_qlora_ends_in_the_same_weights(
    qlora: tuple[Path, Trained], tmp_path: Path
) -> None:
    def stop(event: Progress) -> None:
        if event.done == 5:
            raise StoppedError

    with pytest.raises(StoppedError):
        trained(tmp_path, stop, quantize="nf4")
    assert trained(tmp_path, quantize="nf4").figures.resumed_from_step == 3
    for name in ("adapter/adapter_model.safetensors", "merged/model.safetensors"):
        one, other = load_file(qlora[0] / name), load_file(tmp_path / name)
        assert all(torch.equal(one[key], other[key]) for key in one)


KILLED = """
import os, signal, sys
from pathlib import Path
import safetensors.torch
sys.path.insert(0, "tests")
from test_export import trained
safetensors.torch.save_file = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
trained(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_kill_while_exporting_costs_no_training(tmp_path: Path) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, capture_output=True, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert killed.returncode == -9
    assert (tmp_path / ".merged.tmp").is_dir()
    assert not (tmp_path / "merged").exists()
    steps: list[int] = []
    details = trained(tmp_path, lambda event: steps.append(event.done)).figures
    assert details.resumed_from_step == details.steps
    assert steps == []
    assert not (tmp_path / ".merged.tmp").exists()
    undisturbed = tmp_path / "undisturbed"
    trained(undisturbed)
    one, other = (load_file(f / "merged" / "model.safetensors") for f in (tmp_path, undisturbed))
    assert all(torch.equal(one[name], other[name]) for name in one)
