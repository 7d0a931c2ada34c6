"""Build the docs site into `site/`: `python -m website`, which `make docs` runs."""

from __future__ import annotations

import shutil
import subprocess
import sys

from website.assemble import ROOT, assemble
from website.check import mistakes

CONFIG = ROOT / "zensical.toml"
SITE = ROOT / "site"


def main() -> int:
    """Put the pages together, build them, and check what was built."""
    assemble()
    shutil.rmtree(SITE, ignore_errors=True)
    # Its cache lies beside the settings, and would hide the warnings of pages that did not change.
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    built = subprocess.run([*command, "--config-file", str(CONFIG)])
    if built.returncode:
        return built.returncode
    wrong = mistakes(SITE)
    for line in wrong:
        print(line, file=sys.stderr)
    if not wrong:
        print(f"site/index.html: {len(list(SITE.rglob('*.html')))} pages")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
