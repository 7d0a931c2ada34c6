"""A value that is not known yet, for a test that is to say what it will ask."""

from __future__ import annotations

from typing import Any


class Guess:
    """Whatever a test compares or computes with it comes out well, as far as that can be done. It
    is only ever in a run of the test that does not count.
    """

    def _same(self, *_: Any) -> Guess:
        return self

    def _true(self, *_: Any) -> bool:
        return True

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __bool__ = _true
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _same
    __rtruediv__ = __floordiv__ = __mod__ = __pow__ = __neg__ = __abs__ = __round__ = _same
    __getitem__ = __call__ = _same
    __hash__ = object.__hash__
