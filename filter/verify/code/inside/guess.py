"""Values that are not known yet, for a run of a test that is to say what it will ask. What such a
run comes to does not count.
"""

from __future__ import annotations

import ast
from typing import Any

MADE = "__guesses__"


class Guess:
    """Stands for a value, as far as one may compute with it: what it is compared with, it is."""

    def _true(self, *_: Any) -> bool:
        return True

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = _true
    __hash__ = object.__hash__

    def _same(self, *_: Any) -> Guess:
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _same
    __rtruediv__ = __floordiv__ = __mod__ = __pow__ = __neg__ = __abs__ = __round__ = _same

    def __len__(self) -> int:
        return 0


def forgiving(source: str) -> ast.Module:
    """A test that goes on after an `assert` that fails, where the list `MADE` among its names holds
    a guess by then.
    """
    module = ast.parse(source, "test.py")
    _Forgive().visit(module)
    return ast.fix_missing_locations(module)


class _Forgive(ast.NodeTransformer):
    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        [attempt] = ast.parse(f"try: pass\nexcept Exception:\n if not {MADE}: raise").body
        assert isinstance(attempt, ast.Try)
        for inner in ast.walk(attempt):
            ast.copy_location(inner, node)
        attempt.body = [node]
        return attempt
