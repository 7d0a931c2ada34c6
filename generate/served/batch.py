"""The OpenAI-style batch API: requests as files, answered within a day, at half the price.

What has been sent is remembered in a folder, so that a run that was killed finds its batches
again: a chunk of requests and its intent lie there before anything is sent, and a batch carries
the chunk's name, by which it is found where the run died before it could note the batch's id.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from generate.engine import EngineDiedError, Request, Response
from generate.served.bodies import as_response, as_row, sampling_body
from generate.served.http import Reply
from generate.served.limits import backoff
from generate.served.replies import Failure, estimate_tokens, masker, read_reply
from generate.served.transport import proxies_of, read_key, without_key
from tracestill.records import Sampling, write_atomic
from tracestill.records.models import ServedModel
from tracestill.records.tables import sync_folder

MOST_LINES, MOST_BYTES = 50_000, 100_000_000
POLL_SECONDS = 30.0
_GATHER_SECONDS = 2.0  # without a new request, after which a chunk is sent
_TICK = 0.5
_NAME = "tracestill_chunk"  # the key in a batch's metadata
_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})

T = TypeVar("T")


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()[:16]


def _status(row: dict[str, Any]) -> int:
    """The status of a line of results; lines of the error file may have no response at all."""
    status = (row.get("response") or {}).get("status_code")
    return status if isinstance(status, int) else 500


class _Chunk:
    """Requests that are sent together: `NAME.jsonl`, then `NAME.batch` with the batch's id, then
    `NAME.out.jsonl` with what came of it. Each file is there only when it is whole.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.requests = folder / f"{name}.jsonl"
        self._id = folder / f"{name}.batch"
        self.results = folder / f"{name}.out.jsonl"
        self.looked = 0.0

    @property
    def batch(self) -> str | None:
        return self._id.read_text() if self._id.exists() else None

    def note(self, batch: str) -> None:
        write_atomic(self._id, batch.encode())

    def forget(self) -> None:
        self._id.unlink(missing_ok=True)

    def lines(self) -> Iterator[tuple[str, str]]:
        """The requests' ids, each with its line's digest."""
        with self.requests.open("rb") as file:
            for line in file:
                yield json.loads(line)["custom_id"], _digest(line)


class Batches:
    """What `OpenaiEngine` does where `batch: true`."""

    def __init__(self, model: ServedModel, sampling: Sampling, folder: Path | None) -> None:
        """Read what earlier runs have sent.

        Raises:
            ValueError: there is no folder, or the key's environment variable holds none.

        """
        import httpx2
        import openai

        if folder is None:
            raise ValueError("batch: true works for a run's teacher only, which has a folder")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._model = model
        key = read_key(model.api_key_env) if model.api_key_env else None
        self._mask = masker(key)
        self._key = key or ""
        self._lib = openai
        self._client = openai.OpenAI(
            api_key=key or "none",
            base_url=model.base_urls[0],
            organization="",  # those of the environment are OpenAI's own, not any endpoint's
            project="",
            max_retries=0,
            http_client=openai.DefaultHttpxClient(
                follow_redirects=False,
                trust_env=False,
                mounts={
                    root: httpx2.HTTPTransport(proxy=proxy, trust_env=False)
                    for root, proxy in proxies_of(model.base_urls).items()
                },
            ),
        )
        self._body = sampling_body(model, sampling)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="openai-batch")
        self._chunks: dict[str, _Chunk] = {}
        self._known: dict[str, tuple[str, str]] = {}  # id: the line's digest, the chunk's name
        for path in sorted(folder.glob("*.jsonl")):
            if not path.name.endswith(".out.jsonl"):
                self._remember(_Chunk(folder, path.stem))

    def _remember(self, chunk: _Chunk) -> None:
        """Know a chunk's requests; those that came to nothing are to be sent again."""
        self._chunks[chunk.name] = chunk
        good = None
        if chunk.results.exists():
            with chunk.results.open("rb") as file:
                rows = map(json.loads, filter(bytes.strip, file))
                good = {row["custom_id"] for row in rows if _status(row) == 200}
        for id_, digest in chunk.lines():
            if good is None or id_ in good:
                self._known[id_] = (digest, chunk.name)

    def _line(self, request: Request) -> bytes:
        body = {**self._body, "messages": request.messages}
        if self._model.seeds and request.seed is not None:
            body["seed"] = request.seed
        url = "/v1/chat/completions"
        line = {"custom_id": request.id, "method": "POST", "url": url, "body": body}
        return msgspec.json.encode(line) + b"\n"

    def stream(self, requests: Iterable[Request | None]) -> Iterator[Response | None]:
        """See `Engine.stream`."""
        waiting, exhausted = iter(requests), False
        asked: dict[str, dict[str, int]] = {}  # by chunk: the ids, with their prompts' tokens
        lines: list[bytes] = []
        size, latest = 0, time.monotonic()
        new: dict[str, int] = {}
        while True:
            request = None if exhausted else next(waiting, "end")
            if request == "end":
                exhausted = True
            elif isinstance(request, Request):
                line = self._line(request)
                prompt = sum(estimate_tokens(one["content"]) for one in request.messages)
                digest, name = self._known.get(request.id, ("", ""))
                if digest == _digest(line):
                    asked.setdefault(name, {})[request.id] = prompt
                    continue
                if len(lines) == MOST_LINES or size + len(line) > MOST_BYTES:
                    yield from self._wait(self._send, lines)
                    asked[next(reversed(self._chunks))] = new
                    lines, size, new = [], 0, {}
                lines.append(line)
                new[request.id] = prompt
                size, latest = size + len(line), time.monotonic()
                continue
            if lines and (exhausted or time.monotonic() - latest > _GATHER_SECONDS):
                yield from self._wait(self._send, lines)
                asked[next(reversed(self._chunks))] = new
                lines, size, new = [], 0, {}
            for name in list(asked):
                chunk = self._chunks[name]
                if (yield from self._wait(self._finish, chunk)):
                    yield from self._responses(chunk, asked.pop(name))
            if exhausted and not asked and not lines:
                return
            time.sleep(_TICK if exhausted or not lines else 0.05)
            yield None

    def _wait(self, work: Callable[..., T], *values: Any) -> Generator[None, None, T]:
        """Do something in another thread, and say meanwhile that time passes."""
        future = self._worker.submit(work, *values)
        while True:
            try:
                return future.result(timeout=_TICK)
            except NotYetError:
                yield None

    def _again(self, work: Callable[[], T]) -> T:
        """Do something until the endpoint answers; failures that may pass are tried again."""
        lib = self._lib
        for tries in range(self._model.retries + 1):
            try:
                return work()
            except (lib.AuthenticationError, lib.PermissionDeniedError):
                variable = self._model.api_key_env
                raise ValueError(
                    f"{self._model.base_urls[0]} refuses the key: see that the environment "
                    f"variable {variable} holds a valid one"
                ) from None
            except (
                lib.APIConnectionError, lib.InternalServerError, lib.RateLimitError,
                lib.ConflictError,
            ) as error:  # fmt: skip
                why = self._mask(str(error))
            except lib.APIStatusError as error:
                why = self._mask(str(error))
                raise ValueError(f"{self._model.base_urls[0]} refuses the batch: {why}") from None
            time.sleep(backoff(tries))
        raise EngineDiedError(f"{self._model.base_urls[0]}: {why}")

    def _send(self, lines: list[bytes]) -> None:
        data = b"".join(lines)
        chunk = _Chunk(self._folder, f"{len(self._chunks):05d}-{_digest(data)}")
        write_atomic(chunk.requests, data)
        self._remember(chunk)
        self._create(chunk)

    def _create(self, chunk: _Chunk) -> None:
        client = self._client
        sent = self._again(lambda: client.files.create(file=chunk.requests, purpose="batch"))
        batch = self._again(
            lambda: client.batches.create(
                input_file_id=sent.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={_NAME: chunk.name},
            )
        )
        chunk.note(batch.id)

    def _find(self, chunk: _Chunk) -> str | None:
        """The batch of a chunk whose id was not noted: the run may have died before."""
        for batch in self._again(lambda: list(self._client.batches.list(limit=100))):
            if (batch.metadata or {}).get(_NAME) == chunk.name:
                chunk.note(batch.id)
                return batch.id
        return None

    def _finish(self, chunk: _Chunk) -> bool:
        """Whether the results of a chunk are there; looks for them now and then."""
        if chunk.results.exists():
            return True
        if time.monotonic() - chunk.looked < POLL_SECONDS:
            return False
        first, chunk.looked = chunk.looked == 0.0, time.monotonic()
        id_ = chunk.batch
        if id_ is None and (not first or (id_ := self._find(chunk)) is None):
            self._create(chunk)
            return False
        batch = self._again(lambda: self._client.batches.retrieve(str(id_)))
        if batch.status not in _ENDED:
            return False
        faults = (batch.errors and batch.errors.data) or []
        if batch.status == "failed" and any(one.code == "token_limit_exceeded" for one in faults):
            chunk.forget()  # the account's queue is full: sent again when it has been looked at
            return False
        said = "; ".join(f"{one.code}: {one.message}" for one in faults)
        note = {"custom_id": "", "status": batch.status, "said": self._mask(said)}
        part = chunk.results.with_suffix(".part")
        with part.open("wb") as file:
            for source in (batch.output_file_id, batch.error_file_id):
                if source:
                    self._again(lambda source=source: self._download(source, file))  # type: ignore[misc]
            file.write(b"\n" + msgspec.json.encode(note) + b"\n")
            file.flush()
            os.fsync(file.fileno())  # half of it under its name would be paid for again
        part.replace(chunk.results)
        sync_folder(self._folder)
        return True

    def _download(self, source: str, file: BinaryIO) -> None:
        """Append a file of the endpoint's, which may be larger than memory."""
        begin = file.tell()
        try:
            with self._client.files.with_streaming_response.content(source) as response:
                rest = b""  # a key may lie across two parts, but not across two lines
                for part in response.iter_bytes(1 << 20):
                    *lines, rest = (rest + part).split(b"\n")
                    file.writelines(without_key(line, self._key) + b"\n" for line in lines)
                file.write(without_key(rest, self._key))
        except BaseException:
            file.seek(begin)
            file.truncate()
            raise

    def _responses(self, chunk: _Chunk, asked: dict[str, int]) -> Iterator[Response]:
        ended = "ended"
        with chunk.results.open("rb") as file:
            for line in filter(bytes.strip, file):
                row = json.loads(line)
                if row["custom_id"] == "":
                    ended = f"{row['status']} {row['said']}".strip()
                    continue
                prompt = asked.pop(row["custom_id"], None)
                if prompt is not None:
                    yield self._response(row, prompt)
        for id_ in asked:
            why = f"the batch {chunk.batch} was {ended} without an answer to this request"
            self._known.pop(id_, None)
            yield as_row(id_, Failure(kind="passing", why=why), 0.0)

    def _response(self, row: dict[str, Any], prompt: int) -> Response:
        came = (row.get("response") or {}).get("body") or row.get("error")
        reply = Reply(status=_status(row), retry_after=None, body=msgspec.json.encode(came))
        found = read_reply(reply, self._mask)
        if isinstance(found, Failure):
            self._known.pop(row["custom_id"], None)
            return as_row(row["custom_id"], found, 0.0)
        return as_response(row["custom_id"], found, prompt, 0.0)

    def close(self) -> None:
        """Close the connections; what was sent is answered without us."""
        self._worker.shutdown(wait=False, cancel_futures=True)
        self._client.close()
