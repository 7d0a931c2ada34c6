"""YAML as recipes mean it: `on`, `off`, `yes` and `no` are words, as in YAML 1.2."""

from __future__ import annotations

from typing import Any

import yaml


class Loader(yaml.SafeLoader):
    """YAML's safe loader, for which only `true` and `false` are booleans."""


_BOOLEAN = "tag:yaml.org,2002:bool"
Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern) for tag, pattern in found if tag != _BOOLEAN or first in ("t", "T", "f", "F")
    ]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(text: str) -> Any:
    """The values in a YAML text.

    Raises:
        yaml.YAMLError: it is not YAML.

    """
    return yaml.load(text, Loader=Loader)
