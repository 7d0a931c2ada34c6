"""A headless Chromium for tests of pages, where there is one."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@contextlib.contextmanager
def opened(page: Path | str, **context: Any) -> Iterator[Any]:
    """A page of Playwright's with a file, or an address, open. Whatever it says on its console, and
    whatever it asks of a network, is in the lists `said` and `asked` that it has.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra dev)")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs chromium (apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_context(**context).new_page()
        tab.said, tab.asked = [], []
        tab.set_default_timeout(120_000)
        tab.on("console", lambda message: tab.said.append(message.text))
        tab.on("pageerror", lambda error: tab.said.append(str(error)))
        tab.on("dialog", lambda dialog: (tab.said.append(dialog.message), dialog.dismiss()))
        tab.on("request", lambda request: tab.asked.append(request.url))
        tab.goto(page if isinstance(page, str) else page.as_uri())
        tab.wait_for_selector("body[data-ready]")
        yield tab
        browser.close()
