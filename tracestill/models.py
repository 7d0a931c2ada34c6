"""What a model is, to people and to fingerprints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from generate.config import ImportTeacher
from tracestill.records import Sampling, Teacher, digest, folder_fingerprint
from tracestill.records.models import LocalModel, Redact, ServedModel

if TYPE_CHECKING:
    from generate.engine import Engine
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


def section_content(section: LocalModel | ServedModel | ImportTeacher) -> str:
    """What the model of a section is; of a served one no more is known than name and revision.
    What is imported stands for who wrote it.

    Raises:
        ValueError: the model's folder, or what to import, does not exist.

    """
    if isinstance(section, ImportTeacher):
        from generate.importing import fingerprint

        return fingerprint(section)
    if isinstance(section, ServedModel):
        return digest("served", section.model, section.revision)
    return model_content(section.model, section.revision)


def as_teacher(section: LocalModel | ServedModel, sampling: Sampling) -> Teacher:
    """Who answers, the engine's version still open.

    Raises:
        ValueError: the model's folder does not exist.

    """
    hosts: list[str] = []
    if isinstance(section, ServedModel):
        hosts = [urlsplit(url).hostname or url for url in section.base_urls]
    return Teacher(
        model=model_name(section.model),
        revision=section.revision,
        content=section_content(section),
        engine=section.engine,
        engine_version="",
        quantisation=section.quantization if isinstance(section, LocalModel) else None,
        provider=", ".join(dict.fromkeys(hosts)) or "local",
        sampling=sampling,
    )


def to_restore(section: LocalModel | ServedModel) -> Redact | None:
    """What is masked in what the section's model is asked, to be restored in its answers, where
    they are read rather than learnt from.
    """
    if not isinstance(section, ServedModel) or section.redact is None:
        return None
    return section.redact.model_copy(update={"restore": True})


def open_engine(
    section: LocalModel | ServedModel,
    sampling: Sampling,
    state: Path | None = None,
    chat_template: str | None = None,
) -> Engine:
    """The engine that runs a section's model; `state` is a folder for what a batch API must
    remember from one run to the next, `chat_template` is in place of a local model's own.

    Raises:
        ValueError: the model can't be loaded, or no endpoint answers; the message says why.

    """
    if isinstance(section, ServedModel):
        from generate.openai_engine import OpenaiEngine

        return OpenaiEngine(section, sampling, state)
    from generate.vllm_engine import VllmEngine

    return VllmEngine(loaded_by_vllm(section, chat_template), sampling)


def loaded_by_vllm(section: LocalModel, chat_template: str | None = None) -> Model:
    """What vLLM is to load for a section."""
    from generate.vllm_engine import Model

    return Model(
        path=section.model,
        revision=section.revision,
        quantization=section.quantization,
        dtype=section.dtype,
        max_model_len=section.max_model_len,
        engine_args=section.engine_args,
        chat_template=chat_template,
    )
