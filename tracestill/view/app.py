"""What the page asks of the server. Runs are named by their number, traces by their id: no text of
a request ever leads to a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from tracestill.records.decisions import Decided
from tracestill.view.guard import Guard
from tracestill.view.query import Asked, Sort

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from tracestill.view.opened import OpenRun

_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_Text = Annotated[str, Query(max_length=1_000)]
_Offset = Annotated[int, Query(ge=0, le=1_000_000_000)]
_Limit = Annotated[int, Query(ge=1, le=200)]


class Said(BaseModel):
    """A person's decision, as the page sends it."""

    model_config = ConfigDict(extra="forbid")

    trace_id: str = Field(max_length=100)
    verdict: Decided
    note: str = Field(default="", max_length=2_000)


def make_app(runs: Sequence[OpenRun], port: int, token: str) -> ASGIApp:
    """The server's application, behind its guard."""
    # Without the pages of the API's documentation, which fetch their scripts from elsewhere.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    page = (files("tracestill.view") / "page" / "index.html").read_bytes()
    parts = _parts()

    @app.exception_handler(ValueError)
    @app.exception_handler(OSError)
    def _say(request: Request, error: Exception) -> Response:
        return JSONResponse({"detail": " ".join(str(error).split())}, status_code=500)

    def opened(number: int) -> OpenRun:
        if not 0 <= number < len(runs):
            raise HTTPException(404, "there is no such run")
        return runs[number]

    @app.get("/")
    def index() -> Response:
        return Response(page, media_type="text/html")

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in parts:
            raise HTTPException(404, "there is no such file")
        body, kind = parts[name]
        return Response(body, media_type=kind)

    @app.get("/api/runs")
    def list_runs() -> list[dict[str, Any]]:
        several = len(runs) > 1
        return [
            {"number": number, "name": f"{number + 1}. {run.name}" if several else run.name}
            for number, run in enumerate(runs)
        ]

    @app.get("/api/runs/{number}/live")
    def live(number: int) -> dict[str, Any]:
        return opened(number).live.look()

    @app.get("/api/runs/{number}/facets")
    def facets(number: int) -> dict[str, Any]:
        return opened(number).facets()

    @app.get("/api/runs/{number}/traces")
    def traces(
        number: int,
        q: _Text = "",
        outcome: _Text = "",
        step: _Text = "",
        reason: _Text = "",
        task: _Text = "",
        finish: _Text = "",
        least: int | None = None,
        most: int | None = None,
        sort: Sort = "place",
        offset: _Offset = 0,
        limit: _Limit = 50,
    ) -> dict[str, Any]:
        asked = Asked(
            outcome=outcome, step=step, reason=reason, task=task, finish=finish, least=least,
            most=most, sort=sort, offset=offset, limit=limit,
        )  # fmt: skip
        return opened(number).page(asked, q)

    @app.get("/api/runs/{number}/traces/{trace}")
    def trace(number: int, trace: str, whole: bool = False) -> dict[str, Any]:
        found = opened(number).trace(trace, whole=whole)
        if found is None:
            raise HTTPException(404, "there is no such trace, or it is not indexed yet")
        problem = found["problem"]["id"]
        others = [run.traces_of(problem) for run in runs]
        return found | {"others": others}

    @app.get("/api/runs/{number}/queue")
    def queue(number: int, offset: _Offset = 0, limit: _Limit = 50) -> dict[str, Any]:
        return opened(number).queue(offset, limit)

    @app.post("/api/runs/{number}/decisions")
    def decide(number: int, said: Said) -> dict[str, Any]:
        if not opened(number).decide(said.trace_id, said.verdict, said.note):
            raise HTTPException(404, "there is no such trace, or it is not indexed yet")
        return {"verdict": said.verdict}

    return Guard(app, port, token)


def _parts() -> dict[str, tuple[bytes, str]]:
    """The page's scripts and styles by name, with their type; the report's style among them."""
    found = {}
    own = files("tracestill.view") / "page"
    for part in (*own.iterdir(), files("tracestill.explore") / "page.css"):
        suffix = part.name[part.name.rfind(".") :]
        if suffix in _TYPES:
            found[part.name] = (part.read_bytes(), _TYPES[suffix])
    return found
