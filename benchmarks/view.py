"""How soon `tracestill view` shows a run of many traces: `python -m benchmarks.view`.

Makes a run of a million traces of random sentences (1,000 characters in the mean, four to a
problem, half of them kept) with the writers of the records, starts the server with an empty cache,
and asks it over HTTP as its page does: the first page before there is an index, then filters, sorts
and searches, each several times, and searches also while the index of words is being built. Memory
is the most that the server's process held, the building of the indexes included. Writes
benchmarks/results/view.json.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from benchmarks.report import ROOT, make
from tracestill.run.provenance import provenance

CHARACTERS = 1_000
STARTS = 5
REPEATED = 9
FILTERS: dict[str, dict[str, str]] = {
    "no filter": {},
    "verdict": {"outcome": "incorrect"},
    "what became of it": {"reason": "near_duplicate"},
    "kept, longest first": {"reason": "kept", "sort": "longest"},
    "task and length": {"task": "made/1", "least": "200", "most": "250"},
    "lowest pass rate first": {"sort": "hardest"},
    "in the middle, longest first": {"sort": "longest", "offset": "500000"},
}


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers."""

    pid: int
    port: int
    cookie: str
    seconds: float
    """From its start to its first answer."""

    def ask(self, path: str, **values: str) -> tuple[Any, float]:
        """An answer, and the milliseconds until it was there."""
        begin = time.perf_counter()
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        line.request("GET", f"{path}?{urlencode(values)}", headers={"Cookie": self.cookie})
        reply = line.getresponse()
        body = reply.read()
        took = 1_000 * (time.perf_counter() - begin)
        line.close()
        assert reply.status == 200, (path, values, body)
        return json.loads(body) if path != "/" else body, took

    def traces(self, **values: str) -> tuple[Any, float]:
        """A page of traces."""
        return self.ask("/api/runs/0/traces", **values)

    def memory_mb(self) -> int:
        """The most memory that its process has held."""
        status = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return round(int(next(s.split()[1] for s in status if s.startswith("VmHWM"))) / 1024)


@contextmanager
def serving(run: Path, cache: Path) -> Iterator[Server]:
    """The command as a user starts it."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "tracestill", "view", str(run), "--no-browser"],
        stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        url = urlsplit(process.stdout.readline().removeprefix("Open ").strip())
        assert url.port is not None
        line = http.client.HTTPConnection("127.0.0.1", url.port, timeout=60)
        line.request("GET", f"/?{url.query}")
        reply = line.getresponse()
        reply.read()
        seconds = time.perf_counter() - begin
        cookie = reply.headers["set-cookie"].partition(";")[0]
        yield Server(process.pid, url.port, cookie, seconds)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0


def spread(values: list[float]) -> dict[str, float]:
    """The median and the most, in milliseconds."""
    return {"median_ms": round(statistics.median(values), 1), "most_ms": round(max(values), 1)}


def first_pages(run: Path, folder: Path) -> dict[str, Any]:
    """The first page's milliseconds with an empty cache, as soon as the server answers."""
    starts, pages = [], []
    for number in range(STARTS):
        cache = folder / f"cache-{number}"
        with serving(run, cache) as server:
            found, took = server.traces()
            assert len(found["rows"]) == 50
            starts.append(server.seconds)
            pages.append(took)
        shutil.rmtree(cache)
    return {"start_seconds_median": round(statistics.median(starts), 2), **spread(pages)}


def words_of(run: Path) -> list[str]:
    """What is searched for: words and words in a row of a trace in the middle."""
    from tracestill.records import TraceText, open_table

    table = open_table(run / "generate", "traces", TraceText)
    text = (table[len(table) // 2].reasoning or "").replace(".", "").split()
    pairs = [f'"{text[place]} {text[place + 1]}"' for place in (20, 40, 60)]
    begins = [f"{text[place][:3]}*" for place in (80, 90)]
    return [*text[:6], *pairs, *begins, "problem 77", "boxed", '"it is boxed 4"']


def measured(run: Path, cache: Path) -> dict[str, Any]:
    """What a server takes from an empty cache on."""
    words = words_of(run)
    with serving(run, cache) as server:
        begin = time.perf_counter() - server.seconds
        while server.traces(reason="kept")[0]["state"] != "ready":
            time.sleep(0.05)
        made: dict[str, Any] = {"columns_seconds": round(time.perf_counter() - begin, 1)}
        meanwhile = []
        while True:
            found, took = server.traces(q=words[len(meanwhile) % len(words)], reason="kept")
            if found["searched"] == found["traces"]:
                break
            meanwhile.append(took)
            time.sleep(0.5)
        made["words_seconds"] = round(time.perf_counter() - begin, 1)
        made["search_while_built"] = spread(meanwhile) if meanwhile else None
        filters = {}
        for name, values in FILTERS.items():
            took_each = [server.traces(**values)[1] for _ in range(REPEATED)]
            filters[name] = {"traces": server.traces(**values)[0]["total"], **spread(took_each)}
        made["filters"] = filters
    searches: dict[str, list[float]] = {}
    totals = {}
    for _ in range(REPEATED):  # a new server each time: it keeps what the last searches found
        with serving(run, cache) as server:
            while server.traces(reason="kept")[0]["state"] != "ready":
                time.sleep(0.05)
            for asked in words:
                found, took = server.traces(q=asked)
                searches.setdefault(asked, []).append(took)
                totals[asked] = found["total"]
    made["searches"] = {
        asked: {"traces": totals[asked], **spread(took)} for asked, took in searches.items()
    }
    with serving(run, cache) as server:
        while server.traces(reason="kept")[0]["state"] != "ready":
            time.sleep(0.05)
        ids = [row["id"] for row in server.traces(sort="longest")[0]["rows"][:REPEATED]]
        made["one_trace"] = spread([server.ask(f"/api/runs/0/traces/{own}")[1] for own in ids])
    made["cache_mb"] = round(sum(p.stat().st_size for p in cache.rglob("*") if p.is_file()) / 1e6)
    return made


def most_memory(run: Path, cache: Path) -> int:
    """The memory of a server that builds both indexes and is asked all the while."""
    words = words_of(run)
    with serving(run, cache) as server:
        number = 0
        while True:
            number += 1
            server.traces(sort="longest", offset=str(1_000 * number))
            found, _ = server.traces(q=words[number % len(words)])
            if found["state"] == "ready" and found["searched"] == found["traces"]:
                break
            time.sleep(0.5)
        for asked in words:
            server.traces(q=asked, sort="longest")
        return server.memory_mb()


def main() -> None:
    """Make the run, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=int, default=1_000_000)
    parser.add_argument("--run", type=Path, help="an earlier call's run, instead of a new one")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/view.json")
    options = parser.parse_args()
    made: dict[str, Any] = {"provenance": provenance(0), "load": os.getloadavg()}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run = options.run
        if run is None:
            make(folder, options.traces, CHARACTERS)
            run = folder / "run"
        made |= {"traces": options.traces, "characters": CHARACTERS}
        made["first_page"] = first_pages(run, folder)
        print(json.dumps(made["first_page"]), flush=True)
        made |= measured(run, folder / "cache")
        made["memory_mb"] = most_memory(run, folder / "fresh")
        print(json.dumps(made), flush=True)
    options.out.write_text(json.dumps(made, indent=2) + "\n")


if __name__ == "__main__":
    main()
