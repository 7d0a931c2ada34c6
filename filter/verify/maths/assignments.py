"""Values given by name, `x = 2, y = 5` or `(x, y) = (2, 5)`, beside each other and tuples."""

from __future__ import annotations

import re

from filter.verify.maths.algebra import equal, variable, variables
from filter.verify.maths.forms import Equation, Form, Group, Scalar

_NAMES = re.compile(r"\(([^()]*)\)")
_AFTER_Z = {"w": "zw"}  # the fourth of x, y, z
_Named = dict[str, Form]


def assigned(form: Form) -> _Named | None:
    """The values by their names, in order; None where the form gives no names."""
    if isinstance(form, Equation) and len(form.sides) == 2:
        tuple_ = _NAMES.fullmatch(form.first)
        values = form.sides[1]
        if tuple_ and isinstance(values, Group):
            listed = tuple_[1].split(",")
            if 1 < len(listed) == len(values.items) == len(set(listed)):
                return dict(zip(listed, values.items, strict=True))
    if isinstance(form, Equation) and len(form.sides) > 2:
        # `x = y = z = 1`
        names = [_letter(side) for side in form.sides[:-1]]
        if None not in names and len(set(names)) == len(names):
            return {name: form.sides[-1] for name in names if name}
    if isinstance(form, Group) and form.opens in ("", "(", "{"):
        equations = [item for item in form.items if isinstance(item, Equation) and item.names]
        named = {equation.first: equation.sides[-1] for equation in equations}
        if len(named) == len(form.items) > 1:
            return named
    return None


def _letter(form: Form) -> str | None:
    """The one variable that a form is."""
    names = variables(form.value) if isinstance(form, Scalar) else set()
    name = next(iter(names), "")
    is_one = isinstance(form, Scalar) and len(names) == 1 and equal(form.value, variable(name))
    return name if is_one else None


def in_order(named: _Named) -> tuple[Form, ...]:
    """The values as a tuple without names has them: by the alphabet where the names are a series
    (`x, y, z`; `x_1, x_2`), else as they were written (`r, h`).
    """
    letters = sorted({ord(name[0]) for name in named} - {ord("w")})
    in_series = all(len(name) == 1 or "_" in name for name in named)
    if not in_series or not letters or letters[-1] - letters[0] >= len(letters):
        return tuple(named.values())
    names = sorted(named, key=lambda name: (_AFTER_Z.get(name[0], name[0]), len(name), name))
    return tuple(named[name] for name in names)


def are_roots(named: _Named) -> bool:
    """Whether the names are one letter with numbers, `x_1, x_2`: their order says nothing."""
    return all("_" in name for name in named) and len({name[0] for name in named}) == 1
