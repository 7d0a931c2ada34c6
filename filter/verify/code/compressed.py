"""Read LiveCodeBench's private tests: a pickled text, compressed, in base64. It is not unpickled,
which would run whatever it says.
"""

from __future__ import annotations

import base64
import binascii
import pickletools
import zlib

_MOST_BYTES = 512 * 2**20
_HARMLESS = frozenset({"PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT", "STOP"})
_TEXTS = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"})


def unpacked_text(text: str) -> str:
    """The JSON text in a list of tests, whether or not it is compressed.

    Raises:
        ValueError: the pickle holds anything but one text, or more than 512 MB.

    """
    if text.lstrip()[:1] in ("[", "{"):
        return text
    try:
        opener = zlib.decompressobj()
        pickled = opener.decompress(base64.b64decode(text, validate=True), _MOST_BYTES)
        if not opener.eof:
            raise ValueError("the reference's compressed tests are cut, or larger than 512 MB")
        steps = [(step.name, value) for step, value, _ in pickletools.genops(pickled)]
    except (binascii.Error, zlib.error):
        raise ValueError(
            "a list of tests in the reference is neither JSON nor compressed"
        ) from None
    texts = [value for name, value in steps if name in _TEXTS]
    if len(texts) != 1 or any(name not in _HARMLESS | _TEXTS for name, _ in steps):
        raise ValueError("the reference's compressed tests are no pickled text")
    return str(texts[0])
