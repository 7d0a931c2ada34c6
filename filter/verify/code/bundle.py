"""Make of a job for `inside.host` one program that any Python from 3.10 on runs."""

from __future__ import annotations

import base64
import json
import zlib
from functools import cache
from pathlib import Path
from typing import Any

from filter.verify.code.inside.host import HostJob

_INSIDE = Path(__file__).parent / "inside"
_PACKAGE = "filter.verify.code.inside"
_MODULES = ("wire", "runner", "host")  # each after what it imports
# A verdict must not depend on the order of a set, so hashes are fixed, as in bubblewrap.
_PROGRAM = """\
import os, sys
if os.environ.get("PYTHONHASHSEED") != "0":
    words = [sys.executable, "-s", "-B", "-W", "ignore", __file__]
    os.execve(sys.executable, words, {{**os.environ, "PYTHONHASHSEED": "0"}})
import base64, json, types, zlib
def load(text):
    return json.loads(zlib.decompress(base64.b64decode(text)))
for name, source in load("{modules}"):
    module = sys.modules[name] = types.ModuleType(name)
    parent, _, short = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], short, module)
    exec(compile(source, name, "exec"), module.__dict__)
module.main(load("{job}"))
"""


def bundle(job: HostJob) -> str:
    """The program, in ASCII."""
    return _PROGRAM.format(modules=_modules(), job=_text(job))


@cache
def _modules() -> str:
    parts = _PACKAGE.split(".")
    packages = [(".".join(parts[: n + 1]), "__path__ = []") for n in range(len(parts))]
    modules = [(f"{_PACKAGE}.{name}", (_INSIDE / f"{name}.py").read_text()) for name in _MODULES]
    return _text(packages + modules)


def _text(value: Any) -> str:
    return base64.b64encode(zlib.compress(json.dumps(value).encode(), 9)).decode()
