"""`tracestill view` in a real browser: hostile texts, keys, filters, and a phone's width."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import opened
from conftest import ROOT
from kept_run import make_run, row
from test_report_traces import HOSTILE
from test_view import WORKER
from viewing import Viewer, viewing

from tracestill.records.decisions import read_decisions

PAGES = ("traces", "decide", "live")


def said(number: int, reasoning: str, answer: str, **changed: Any) -> dict[str, Any]:
    text = f"<think>\n{reasoning}\n</think>\n\n{answer}"
    return row(number, response=text, **changed)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of hostile texts in prompts, reasoning, answers and what a verifier reads of them, with
    disputed answers.
    """
    given = []
    for number, text in enumerate(HOSTILE):
        for sample, answer in enumerate((text, text, text, str(number + 1))):
            given.append(
                said(
                    number,
                    f"{sample}. {text}",
                    f"{text} It is \\boxed{{{answer}}}.",
                    prompt=f"{text} What is {number} + 1?",
                    source=f"<img src=x onerror='window.hit = {number}'>",
                )
            )
    agreement = {"samples": 3, "share": 0.5, "mend": False}
    filtering = {"steps": ["form", "verify"], "agreement": agreement}
    return make_run(tmp_path_factory.mktemp("hostile"), given, filter=filtering)[1]


@pytest.fixture(scope="module")
def viewer(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    with viewing(tmp_path_factory.mktemp("browser"), run) as found:
        yield found.ready()


def go(tab: Any, page: str) -> None:
    tab.evaluate(
        """page => {
            if (location.hash === page) return;
            document.body.removeAttribute("data-ready");
            location.hash = page;
        }""",
        page,
    )
    tab.wait_for_selector("body[data-ready]")


# Functions: the page's policy does not let the browser evaluate a text again and again.
COUNTED = "text => ` ${document.getElementById('count').textContent}`.includes(text)"
OPENED = "trace => document.getElementById('opened').dataset.trace === trace"
LEFT = "trace => document.getElementById('opened').dataset.trace !== trace"
LISTED = "([at, text]) => document.querySelectorAll('.queue button')[at].innerText.includes(text)"
UNLISTED = (
    "([at, text]) => !document.querySelectorAll('.queue button')[at].innerText.includes(text)"
)


def readable(text: str) -> str:
    """A text without what a browser shows as nothing or as white space."""
    return " ".join("".join(" " if c in "\u2028\u2029\u0000\ufffd" else c for c in text).split())


def test_hostile_texts_are_shown_and_do_nothing(viewer: Viewer, tmp_path: Path) -> None:
    rows = viewer.get("/api/runs/0/traces", limit=200)["rows"]
    assert len(rows) == 4 * len(HOSTILE)
    firsts = {one["problem"]: one["id"] for one in rows}
    assert len(firsts) == len(HOSTILE)
    with opened(viewer.url) as tab:
        seen = ""
        for page in ("#/0/traces?offset=0", "#/0/traces?offset=50", "#/0/decide", "#/0/live"):
            go(tab, page)
            seen += tab.inner_text("body")
        for own in firsts.values():
            go(tab, f"#/0/trace/{own}")
            seen += tab.inner_text("body")
        seen = readable(seen)
        for text in HOSTILE:
            assert readable(text) in seen, text
        assert tab.evaluate("window.hit") is None
        tags = "script, img, iframe, object, embed, style, base, meta"
        strange = f"script:not([src]), #main :is({tags})"
        assert tab.evaluate("s => document.querySelectorAll(s).length", strange) == 0
        links = tab.evaluate("[...document.links].map(link => link.getAttribute('href'))")
        assert all(link.startswith("#") for link in links)
        assert tab.said == []
        assert {url.split("/")[2] for url in tab.asked} == {f"127.0.0.1:{viewer.port}"}


def test_the_token_leaves_the_address(viewer: Viewer) -> None:
    with opened(viewer.url) as tab:
        assert "token" not in tab.url
        assert tab.evaluate("document.cookie") == ""
        tab.reload()
        tab.wait_for_selector("body[data-ready]")
        assert tab.inner_text("#count").startswith("1 to 50 of 80")


def test_filters_and_search_change_the_table_and_the_address(viewer: Viewer) -> None:
    with opened(viewer.url) as tab:
        tab.click("#next")
        tab.wait_for_function(COUNTED, arg=" 51 to 80")
        tab.select_option("#f-reason", "incorrect")
        tab.wait_for_function(COUNTED, arg=" 1 to 50")
        assert "reason=incorrect" in tab.url
        tab.fill("#f-q", '"what is 7"')
        tab.wait_for_function(COUNTED, arg=" of 3 ")
        address = tab.url
        tab.reload()
        tab.wait_for_function(COUNTED, arg=" of 3 ")
        assert tab.url == address
        assert tab.input_value("#f-q") == '"what is 7"'
        assert tab.input_value("#f-reason") == "incorrect"
        tab.click("#clear")
        tab.wait_for_function(COUNTED, arg=" of 80 ")
        tab.click("#table tbody tr:first-child a")
        tab.wait_for_selector(".pair article + .beside article")
        assert tab.evaluate("document.querySelectorAll('.pair article').length") == 2


def test_keys_decide_and_fields_keep_their_letters(viewer: Viewer, run: Path) -> None:
    with opened(viewer.url) as tab:
        go(tab, "#/0/decide")
        first = tab.get_attribute("#opened", "data-trace")
        tab.keyboard.press("j")
        tab.wait_for_function(LEFT, arg=first)
        tab.keyboard.press("k")
        tab.wait_for_function(OPENED, arg=first)
        tab.fill("#opened input", "12 jk")
        assert read_decisions(run) == {}
        tab.evaluate("document.activeElement.blur()")
        tab.keyboard.press("2")
        tab.wait_for_function(LEFT, arg=first)
        assert {t: (d.verdict, d.note) for t, d in read_decisions(run).items()} == {
            first: ("incorrect", "12 jk")
        }
        tab.keyboard.press("1")
        tab.wait_for_function(LISTED, arg=[1, "decided correct"])
        assert len(read_decisions(run)) == 2
        tab.keyboard.press("k")
        tab.keyboard.press("k")
        tab.wait_for_function(OPENED, arg=first)
        tab.wait_for_selector("#opened [aria-pressed=true]")
        tab.keyboard.press("0")
        tab.wait_for_function(UNLISTED, arg=[0, "decided"])
        assert read_decisions(run)[first].verdict == "undecided"


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(viewer: Viewer, width: int) -> None:
    own = viewer.get("/api/runs/0/traces")["rows"][0]["id"]
    with opened(viewer.url, viewport={"width": width, "height": 800}) as tab:
        for page in (*(f"#/0/{page}" for page in PAGES), f"#/0/trace/{own}"):
            go(tab, page)
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, page


def test_every_field_and_button_has_a_name(viewer: Viewer) -> None:
    own = viewer.get("/api/runs/0/traces")["rows"][0]["id"]
    unnamed = """() => [...document.querySelectorAll("button, input, select, a[href]")]
        .filter(one => !one.textContent.trim() && !one.getAttribute("aria-label"))
        .filter(one => !one.labels?.length)
        .map(one => one.outerHTML)"""
    with opened(viewer.url) as tab:
        for page in (*(f"#/0/{page}" for page in PAGES), f"#/0/trace/{own}"):
            go(tab, page)
            assert tab.evaluate(unnamed) == [], page
        tab.reload()
        tab.wait_for_selector("body[data-ready]")
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.className") == "skip"


@pytest.mark.timeout(180)
def test_a_page_follows_a_run_that_is_killed_and_goes_on(tmp_path: Path) -> None:
    _, run = make_run(tmp_path, [row(n) for n in range(2)])
    for name in ("generate", "filter"):
        (run / name / "manifest.json").unlink()

    def work(first: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", textwrap.dedent(WORKER), str(run), str(first)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    worker = work(0)
    with viewing(tmp_path, run) as viewer, opened(viewer.url) as tab:
        go(tab, "#/0/live")
        has = "text => document.getElementById('main').innerText.includes(text)"
        for text in ("The run goes on.", "3 responses", "300 tokens", "cost 0.75", "<b>2</b>"):
            tab.wait_for_function(has, arg=text)
        worker.kill()
        worker.wait()
        tab.wait_for_function(has, arg="No process works on the run.")
        worker = work(3)
        for text in ("The run goes on.", "6 responses", "<b>5</b>"):
            tab.wait_for_function(has, arg=text)
        worker.kill()
        worker.wait()
        assert tab.said == []


def test_the_page_says_that_the_server_has_ended(run: Path, tmp_path: Path) -> None:
    with viewing(tmp_path, run) as viewer, opened(viewer.url) as tab:
        go(tab, "#/0/live")
        viewer.process.terminate()
        tab.wait_for_selector("#wrong:not([hidden])")
        assert "`tracestill view` has ended" in tab.inner_text("#wrong")
