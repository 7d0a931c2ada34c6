"""Grade multiple-choice answers by the option that they choose."""

from filter.verify.choice.grade import choice

__all__ = ["choice"]
