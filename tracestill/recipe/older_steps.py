"""The keys by which recipes said the filter's steps before there was a list of them."""

from __future__ import annotations

from typing import Any

from tracestill.recipe.filter_steps import DEFAULT

# Where each belongs now.
_SWITCHES = {
    "verify": "verify",
    "decontaminate": "contamination",
    "exact_duplicates": "exact",
    "near_duplicates": "near",
}
_OLDER = {
    **_SWITCHES,
    "keep": "verify",
    "max_tokens": "length",
    "max_per_problem": "select",
    "max_traces": "select",
}


def without_steps(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe's section without what it says of steps."""
    return {name: value for name, value in values.items() if name not in {*_OLDER, "steps"}}


def with_steps(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe's section with `steps` in place of the keys by which older recipes said them: the
    default list, changed by these.

    Raises:
        ValueError: both are there.

    """
    said = {name: value for name, value in values.items() if name in _OLDER}
    if not said:
        return values
    if values.get("steps") is not None:
        first = next(iter(said))
        raise ValueError(f"{first}: with a list of steps, say it there, as `{_OLDER[first]}`")
    steps: dict[str, Any] = {name: {} for name in DEFAULT}
    for name, step in _SWITCHES.items():
        given = said.get(name, True)
        if given is None or given is False:
            del steps[step]
        elif isinstance(given, dict):
            steps[step] = {key: value for key, value in given.items() if key != "permutations"}
    if "keep" in said and "verify" in steps:
        steps["verify"] = {"keep": said["keep"]}
    made = [{name: settings} for name, settings in steps.items()]
    if said.get("max_tokens") is not None:
        made.insert(DEFAULT.index("verify"), {"length": {"max_tokens": said["max_tokens"]}})
    if said.get("max_per_problem") is not None:
        made.append({"select": {"by": "first", "per_problem": said["max_per_problem"]}})
    if said.get("max_traces") is not None:
        made.append({"select": {"by": "random", "total": said["max_traces"]}})
    return {**without_steps(values), "steps": made}
