"""Identities and fingerprints: what decides whether two things are the same thing."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from typing import Any

FORMAT = 3  # raised when the meaning of what lies on disk changes


def digest(*parts: Any) -> str:
    """A hash (20 hex digits) of JSON-serialisable parts."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def normalise_prompt(text: str) -> str:
    """A prompt without differences that a reader does not see: NFKC, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).split())


def problem_id(prompt: str, reference: str) -> str:
    """A problem's identity: its normalised prompt and its reference."""
    return digest("problem", normalise_prompt(prompt), reference.strip())


def trace_id(problem: str, teacher: str, sample: int) -> str:
    """A trace's identity, from `problem_id`, the teacher's fingerprint and the sample's index.

    Neither the token budget nor the order of rows is part of it, so that raising the one or
    changing the other reuses every trace already paid for.
    """
    return digest("trace", problem, teacher, sample)


def bucket(prompt: str, of: int) -> int:
    """A problem's bucket, 0 to `of` - 1, by its prompt alone: a split that no row order moves."""
    return int(hashlib.sha256(prompt.strip().encode("utf-8")).hexdigest(), 16) % of
