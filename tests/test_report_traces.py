"""The traces of a report: which are chosen, what is marked in them, and how the page finds them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from browsing import opened
from kept_run import make_run, row

from tracestill.explore.browser import browser
from tracestill.explore.life import life
from tracestill.explore.load import load_run
from tracestill.explore.marks import answer_in, loop_in, masked, pieces, quote_in, repeats_in
from tracestill.explore.report import build

HOSTILE = [
    "<script>window.hit = 1</script>",
    "</script><script>window.hit = 1</script>",
    "<img src=x onerror='window.hit = 1'>",
    "<svg onload='window.hit = 1'></svg>",
    "<svg><script>window.hit = 1</script></svg>",
    "javascript:window.hit=1",
    "<a href='javascript:window.hit=1' id='link'>x</a>",
    "<iframe srcdoc='<script>parent.hit = 1</script>'></iframe>",
    "<body onload='window.hit = 1'>",
    "<details open ontoggle='window.hit = 1'>",
    "<!--<script>window.hit = 1</script>-->",
    "]]><script>window.hit = 1</script>",
    "{{ 7 * 7 }} {% include 'x' %} ${7 * 7}",
    '"><script>window.hit = 1</script>',
    "\\u003cscript>window.hit = 1</script>",
    "<style>body { display: none }</style>",
    "<meta http-equiv='refresh' content='0;url=http://localhost:1'>",
    "<base href='http://localhost:1/'>",
    "\u2028</ScRiPt ><sCrIpT>window.hit = 1</sCrIpT>\u2029",
    "\u202e<object data='http://localhost:1'></object>\u0000<embed src=x>",
]
LOOP = "First, let us see. " + "So it is seven, or is it eight? Let me check that again now. " * 12


def said(number: int, reasoning: str, answer: str | None = None) -> dict[str, Any]:
    right = f"It is \\boxed{{{number + 1}}}."
    return row(number, response=f"<think>\n{reasoning}\n</think>\n\n{answer or right}")


def pair(number: int, **changed: Any) -> list[dict[str, Any]]:
    """A right and a wrong trace of one problem."""
    wrong = said(number, f"Take {number}, and guess.", "It is \\boxed{0}.")
    return [row(number, **changed), {**wrong, **changed}]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run: pairs of a kept and a dropped trace, hostile texts, a loop."""
    rows = [one for number in range(30) for one in pair(number)]
    rows += [said(100, LOOP, "It is \\boxed{101}, or so.")]
    for number, text in enumerate(HOSTILE):
        own = said(200 + number, f"Take it. {text}", f"{text} It is \\boxed{{{201 + number}}}.")
        rows.append({**own, "prompt": f"{text} What is {200 + number} + 1?"})
    folder = tmp_path_factory.mktemp("report")
    steps = ["form", "verify", "contamination", {"quality": {"supported": False}}, "exact"]
    _, made = make_run(folder, rows, filter={"steps": steps})
    build(made)
    return made


def data_of(page: Path) -> dict[str, Any]:
    found = re.search(r'<script id="data"[^>]*>(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    values: dict[str, Any] = json.loads(found[1])
    return values


def test_a_page_holds_what_the_life_of_a_trace_says(run: Path) -> None:
    data = data_of(run / "report.html")
    assert len(data["rows"]) == 81
    shared = set(data["shared"])
    for values in data["rows"][:4]:
        told = dict(zip(data["columns"], values, strict=True))
        told = {
            name: data["strings"][value] if name in shared else value
            for name, value in told.items()
        }
        events = {event.what: event.said for event in life(run, told["id"])}
        assert told["verdict"] + told["judged"] == events["verdict"]
        assert told["student"] == events["student"]
        passed = [what for what, text in events.items() if text == "passed"]
        assert told["passed"] == passed
        if told["step"]:
            assert told["dropped"] == events[told["step"]]


def test_nothing_in_a_trace_ends_the_data_or_leaves_it(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert page.count("<script") == page.count("</script>") == 2
    block = page[page.index('<script id="data"') :]
    block = block[block.index(">") + 1 : block.index("</script>")]
    assert not re.search("[<>&\u2028\u2029]", block)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert "unsafe" not in policy[1]
    assert policy[1].startswith("default-src &#39;none&#39;; script-src &#39;sha256-")
    assert ' style="' not in page
    for file in ("page.js", "traces.js"):
        script = (Path(__file__).parent.parent / "tracestill/explore" / file).read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", script)


def test_hostile_texts_do_nothing_in_a_browser(run: Path) -> None:
    with opened(run / "report.html") as tab:
        for number, text in enumerate(HOSTILE):
            tab.fill("#f-q", f"what is {200 + number} + 1?")
            shown = tab.inner_text("#open article")
            lines = shown.replace("\u2028", "").replace("\u2029", "")
            assert "It is \\boxed{" in shown
            wanted = text.replace("\u2028", "").replace("\u2029", "").replace("\u0000", "")
            assert wanted.split("\u0000")[0][:20] in lines
        assert tab.evaluate("window.hit") is None
        inside = (
            "document.querySelectorAll('#traces :is(script, img, iframe, object, style)').length"
        )
        assert tab.evaluate(inside) == 0
        assert tab.said == []
        assert all(url.startswith("file:") for url in tab.asked)


def test_filters_and_search_find_the_right_traces(run: Path) -> None:
    with opened(run / "report.html") as tab:

        def count() -> str:
            return str(tab.inner_text("#count"))

        assert count() == "1 to 50 of 81 traces"
        tab.click("#next")
        assert count() == "51 to 81 of 81 traces"
        tab.select_option("#f-reason", "incorrect")
        assert count() == "1 to 30 of 30 traces"
        tab.select_option("#f-step", "quality")
        assert count() == "No trace here fits these filters."
        tab.click("#clear")
        tab.select_option("#f-step", "quality")
        assert count() == "1 to 1 of 1 traces"
        tab.click("#clear")
        tab.select_option("#f-task", "traces/odd")
        tab.select_option("#f-outcome", "correct")
        assert count().endswith(" of 25 traces")
        tab.click("#clear")
        tab.fill("#f-q", "take 7, and guess")
        assert count() == "1 to 1 of 1 traces"
        tab.fill("#f-q", "")
        tab.fill("#f-min", "220")
        tab.fill("#f-max", "224")
        assert count() == "1 to 5 of 5 traces"
        tab.select_option("#f-sort", "longest")
        first = tab.inner_text("#list [role=option]")
        assert "224 tokens" in first


def test_kept_lies_beside_dropped_and_a_link_brings_both_back(run: Path) -> None:
    with opened(run / "report.html") as tab:
        tab.fill("#f-q", "what is 9 + 1?")
        left, right = tab.query_selector_all("#open article")
        fates = {one.query_selector(".tag").inner_text() for one in (left, right)}
        assert fates == {"kept", "incorrect"}
        shown, address = tab.inner_text("#open"), tab.url
        assert "q=what" in address
        assert "trace=" in address
        tab.goto("about:blank")
        tab.goto(address)
        tab.wait_for_selector("body[data-ready]")
        assert tab.inner_text("#open") == shown
        assert tab.input_value("#f-q") == "what is 9 + 1?"


def test_bars_show_their_traces_and_keys_go_through_them(run: Path) -> None:
    with opened(run / "report.html") as tab:
        bar = tab.query_selector('svg [data-filter="reason=incorrect"]')
        bar.hover()
        assert "30 incorrect" in tab.inner_text("#tip")
        bar.focus()
        tab.keyboard.press("Enter")
        assert tab.input_value("#f-reason") == "incorrect"
        first = tab.inner_text("#open dd")
        tab.keyboard.press("j")
        assert tab.inner_text("#list [aria-selected=true]") != first
        tab.keyboard.press("/")
        assert tab.evaluate("document.activeElement.id") == "f-q"
        tab.keyboard.press("Escape")
        assert tab.evaluate("document.activeElement.id") != "f-q"
        tab.click("#quick-loop")
        mark = tab.query_selector("#open mark.loop")
        assert "So it is seven" in mark.inner_text()
        assert tab.query_selector("#open mark.answer").inner_text().endswith("101")
        point = tab.query_selector("svg [data-row]")
        assert "pass rate" in point.get_attribute("data-tip")


@pytest.mark.parametrize("megabytes", [0.01, 0.02])
def test_what_is_shown_fits_and_holds_whole_problems_and_every_reason(
    run: Path, megabytes: float
) -> None:
    most = round(megabytes * 1e6)
    held = browser(load_run(run), most)
    assert 0.5 * most < len(held.data.encode()) <= most * 1.02
    assert held.total == 81 > len(held.rows)
    reasons = {one.reason for one in held.rows}
    assert reasons >= {"kept", "incorrect", "loop"}
    each = [one.problem for one in held.rows]
    assert any(each.count(problem) == 2 for problem in each)
    assert len(browser(load_run(run), 10**6, 7).rows) == 7
    assert browser(load_run(run), 10**6, 0).rows == []


def test_a_loop_is_where_the_filter_finds_it() -> None:
    from filter.measures import measure

    texts = [LOOP, "a b c", "x " * 100, "一二三四五六七八九十" * 9, f"{'word ' * 60}end and more."]
    for text, times in zip(texts, measure(texts, []).loops.tolist(), strict=True):
        found = loop_in(text)
        assert (found.times if found else 1.0) == pytest.approx(times)
    found = loop_in(LOOP)
    assert found is not None
    assert LOOP[found.begin :].startswith("So it is seven")


def test_marks_are_where_they_should_be() -> None:
    answer = "Is it 12? No: \\boxed{12} and 12 apples."
    mark = answer_in(answer, "12")
    assert mark is not None
    assert answer[mark.begin - 1 : mark.end] == "{12"
    assert answer_in("nothing", "7") is None
    quote = quote_in("He said: “I can\nnot,  help” you.", "i can not help…")
    assert quote is not None
    assert "He said: “I can\nnot,  help” you."[quote.begin : quote.end] == "I can\nnot,  help"
    twice = " ".join(f"w{n}" for n in range(30))
    repeated = list(repeats_in(f"{twice}\n{twice}"))
    assert repeated[0].begin == len(twice) + 1
    parts = pieces("x" * 50_000, [], 6_000)
    assert [part[0] for part in parts if isinstance(part, tuple)] == ["cut"]
    assert sum(len(part) for part in parts if isinstance(part, str)) == 6_000
    hidden = masked("Write to anna.smith@example.org now.", ())
    assert "smith" not in hidden
    assert hidden.startswith("Write to ann… (")


def test_the_page_prints_without_its_fields_and_fits_a_phone(run: Path) -> None:
    with opened(run / "report.html", viewport={"width": 390, "height": 800}) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        tab.emulate_media(media="print")
        assert not tab.is_visible("#f-q")
        assert not tab.is_visible("#list")
        assert tab.is_visible("#open article")
