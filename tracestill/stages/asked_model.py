"""A model that is asked, as the fingerprint of a stage sees it."""

from __future__ import annotations

from typing import Any

from generate.teacher import section_content
from tracestill.recipe.models import NEUTRAL, LocalModel, ServedModel


def model_settings(section: LocalModel | ServedModel) -> Any:
    """What decides what a model answers: its content, and its keys but for those that say where it
    runs and how fast.

    Raises:
        ValueError: the model's folder does not exist.

    """
    kind = LocalModel if isinstance(section, LocalModel) else ServedModel
    keys = kind.model_fields.keys() - NEUTRAL - {"model"}
    return [section_content(section), section.model_dump(include=keys)]
