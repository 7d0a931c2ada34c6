"""Put the site's pages together: those of the repository as they are, and the generated ones.

The folder has the repository's own layout, so that a link between two pages leads to the same place
here, on the site and in the repository. What pages link to comes along, and so on from there.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from website import command_line, python_api, recipe_keys

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "build" / "website"
GENERATED: dict[str, Callable[[], str]] = {
    "reference/recipe-keys.md": recipe_keys.page,
    "reference/command-line.md": command_line.page,
    "reference/python.md": python_api.page,
}
"""The generated pages, by where they lie on the site."""

_CODE = re.compile(r"^(`{3,}|~{3,}).*?^\1$|(`+)(?!`).*?(?<!`)\2(?!`)", re.M | re.S)
_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s]+)(\))")


def assemble() -> None:
    """Write all pages into `PAGES`, in place of what was there.

    Raises:
        ValueError: a page links to a file that is not there.

    """
    shutil.rmtree(PAGES, ignore_errors=True)
    for name, page in GENERATED.items():
        _write(PAGES / name, page())
    waiting = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    waiting += sorted((ROOT / "docs").rglob("*.md"))
    waiting += [target for name in GENERATED for target in _from_generated(name)]
    done: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in done:
            continue
        done.add(path)
        waiting += _take(path)
    shutil.copytree(Path(__file__).parent / "assets", PAGES / "assets")


def _take(path: Path) -> list[Path]:
    """Write what lies at a path of the repository; gives what it links to."""
    target = PAGES / path.relative_to(ROOT)
    if path.is_dir():
        files = sorted(one for one in path.iterdir() if one.is_file())
        rows = "\n".join(f"- [{one.name}]({one.name})" for one in files)
        _write(target / "README.md", f"# {path.relative_to(ROOT)}\n\n{rows}\n")
        return files
    if path.suffix != ".md":
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
        return []
    text = path.read_text(encoding="utf-8")
    _write(target, with_links(text, lambda link: _on_the_site(path, link)))
    return [place for link in links(text) if (place := target_of(path, link)) is not None]


def _from_generated(name: str) -> list[Path]:
    """What a generated page links to outside of the generated ones."""
    page = ROOT / name
    found = [target_of(page, link) for link in links((PAGES / name).read_text("utf-8"))]
    return [path for path in found if path is not None]


def links(text: str) -> list[str]:
    """The targets of a page's links, without those in code."""
    return [match[2] for match in _LINK.finditer(_CODE.sub("", text))]


def with_links(text: str, change: Callable[[str], str]) -> str:
    """The text with the target of each link changed; code is left as it is."""
    parts: list[str] = []
    place = 0
    for code in _CODE.finditer(text):
        parts += [_changed(text[place : code.start()], change), code[0]]
        place = code.end()
    return "".join([*parts, _changed(text[place:], change)])


def _changed(text: str, change: Callable[[str], str]) -> str:
    return _LINK.sub(lambda match: f"{match[1]}{change(match[2])}{match[3]}", text)


def target_of(page: Path, link: str) -> Path | None:
    """The file or folder of the repository to which a page's link leads; None where it leads
    elsewhere, or to a generated page.

    Raises:
        ValueError: nothing is there.

    """
    name = link.partition("#")[0]
    if not name or re.match(r"[a-z]+:", name):
        return None
    path = (page.parent / name).resolve()
    if path.is_relative_to(ROOT / "reference"):
        return None
    if not path.exists():
        raise ValueError(f"{page.relative_to(ROOT)}: the link {link} leads nowhere")
    return path


def _on_the_site(page: Path, link: str) -> str:
    """A link as it is on the site: folders have a page with their files."""
    target = target_of(page, link)
    return f"{link.rstrip('/')}/README.md" if target is not None and target.is_dir() else link


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
