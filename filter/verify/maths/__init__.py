"""Grade mathematical answers: exactly and in this process where that can be done, else by
math-verify in processes that can be killed.
"""

from filter.verify.maths.grade import NO_ANSWER, maths, maths_many
from filter.verify.maths.symbolic import open_comparer

__all__ = ["NO_ANSWER", "maths", "maths_many", "open_comparer"]
