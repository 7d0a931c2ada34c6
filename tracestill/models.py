"""What a model is, to people and to fingerprints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tracestill.records import Sampling, Teacher, digest, folder_fingerprint

if TYPE_CHECKING:
    from filter.config import Judge
    from generate.config import GenerateSection
    from generate.vllm_engine import Model


def model_content(path: str, revision: str | None) -> str:
    """What a model is: the content of its folder, or its name and revision on the hub.

    Raises:
        ValueError: the folder does not exist.

    """
    if not path.startswith("/"):
        return digest("hub", path, revision)
    if not (Path(path) / "config.json").is_file():
        raise ValueError(f"the model folder {path} does not exist or has no config.json")
    return folder_fingerprint(Path(path))


def model_name(path: str) -> str:
    """A model's name for people: its id, or the last two parts of its folder's path."""
    return "/".join(Path(path).parts[-2:]) if path.startswith("/") else path


def engine_model(settings: GenerateSection | Judge) -> Model:
    """What vLLM is to load for a section of a recipe."""
    from generate.vllm_engine import Model

    return Model(
        path=settings.model,
        revision=settings.revision,
        quantization=settings.quantization,
        dtype=settings.dtype,
        max_model_len=settings.max_model_len,
        engine_args=settings.engine_args,
    )


def as_teacher(model: Model, sampling: Sampling) -> Teacher:
    """Who answers where vLLM runs a model in this process, the engine's version still open.

    Raises:
        ValueError: the model's folder does not exist.

    """
    return Teacher(
        model=model_name(model.path),
        revision=model.revision,
        content=model_content(model.path, model.revision),
        engine="vllm",
        engine_version="",
        quantisation=model.quantization,
        provider="local",
        sampling=sampling,
    )
