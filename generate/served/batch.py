"""The OpenAI-style batch API: requests as files, answered within a day, at half the price."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import httpx2
import msgspec
import openai
import tenacity
from openai.types import Batch

from generate.engine import EngineDiedError, Request, Response
from generate.served.bodies import answered, failed, sampling_body
from generate.served.chunks import Chunk, Chunks, status_of
from generate.served.replies import Failure, estimate_tokens, key_scrubber, read_reply
from generate.served.retries import BACKOFF
from generate.served.transport import Reply, proxies_of, read_key, without_key
from tracestill.recipe.models import ServedModel
from tracestill.records import Sampling
from tracestill.records.files import sync_folder

MOST_LINES, MOST_BYTES = 50_000, 100_000_000
POLL_SECONDS = 30.0
_GATHER_SECONDS = 2.0  # without a new request, after which a chunk is sent
_TICK = 0.5
_NAME = "tracestill_chunk"  # the key in a batch's metadata
_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
_PASSING = (
    openai.APIConnectionError,
    openai.InternalServerError,
    openai.RateLimitError,
    openai.ConflictError,
)

T = TypeVar("T")


@dataclass(slots=True)
class _Unsent:
    """Requests that wait until they make a chunk."""

    lines: list[bytes] = field(default_factory=list)
    requests: dict[str, Request] = field(default_factory=dict)
    size: int = 0
    latest: float = 0.0

    def full(self, line: bytes) -> bool:
        return len(self.lines) == MOST_LINES or self.size + len(line) > MOST_BYTES

    def add(self, request: Request, line: bytes) -> None:
        self.lines.append(line)
        self.requests[request.id] = request
        self.size += len(line)
        self.latest = time.monotonic()


class Batches:
    """What `OpenaiEngine` does where `batch: true`."""

    def __init__(self, model: ServedModel, sampling: Sampling, folder: Path | None) -> None:
        """Read what earlier runs have sent.

        Raises:
            ValueError: there is no folder, or the key's environment variable holds none.

        """
        if folder is None:
            raise ValueError("batch: true works for a run's teacher only, which has a folder")
        self._chunks = Chunks(folder)
        self._model = model
        self._url = model.base_urls[0]
        key = read_key(model.api_key_env) if model.api_key_env else None
        self._scrub = key_scrubber(key)
        self._key = key or ""
        self._client = openai.OpenAI(
            api_key=key or "none",
            base_url=self._url,
            organization="",  # those of the environment are OpenAI's own, not any endpoint's
            project="",
            max_retries=0,
            http_client=openai.DefaultHttpxClient(
                follow_redirects=False,
                trust_env=False,
                mounts={
                    root: httpx2.HTTPTransport(proxy=proxy, trust_env=False)
                    for root, proxy in proxies_of([self._url]).items()
                },
            ),
        )
        self._body = sampling_body(model, sampling)
        self._max_tokens = sampling.max_tokens
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="openai-batch")

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
        unsent = _Unsent()
        awaited: dict[str, dict[str, Request]] = {}  # by chunk and id
        while True:
            request = None if exhausted else next(waiting, "end")
            exhausted = exhausted or request == "end"
            if isinstance(request, Request):
                line = self._line(request)
                if (name := self._chunks.holding(request.id, line)) is not None:
                    awaited.setdefault(name, {})[request.id] = request
                    continue
                if unsent.full(line):
                    unsent = yield from self._send(unsent, awaited)
                unsent.add(request, line)
                continue
            if unsent.lines and (exhausted or time.monotonic() - unsent.latest > _GATHER_SECONDS):
                unsent = yield from self._send(unsent, awaited)
            for name in list(awaited):
                chunk = self._chunks[name]
                if (yield from self._wait(self._poll, chunk)):
                    yield from self._responses(chunk, awaited.pop(name))
            if exhausted and not awaited and not unsent.lines:
                return
            time.sleep(_TICK if exhausted or not unsent.lines else 0.05)
            yield None

    def _send(
        self, unsent: _Unsent, awaited: dict[str, dict[str, Request]]
    ) -> Generator[None, None, _Unsent]:
        chunk = self._chunks.add(unsent.lines)
        yield from self._wait(self._create, chunk)
        awaited[chunk.name] = unsent.requests
        return _Unsent()

    def _wait(self, work: Callable[..., T], *values: Any) -> Generator[None, None, T]:
        """Do something in another thread, and meanwhile yield now and then."""
        future = self._worker.submit(work, *values)
        while True:
            try:
                return future.result(timeout=_TICK)
            except NotYetError:
                yield None

    def _retry(self, work: Callable[[], T]) -> T:
        """Do something until the endpoint answers."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_PASSING),
            stop=tenacity.stop_after_attempt(self._model.retries + 1),
            wait=BACKOFF,
            reraise=True,
        )
        try:
            return retrying(work)
        except (openai.AuthenticationError, openai.PermissionDeniedError):
            raise ValueError(
                f"{self._url} refuses the key: check that the environment variable "
                f"{self._model.api_key_env} holds a valid one"
            ) from None
        except _PASSING as error:
            raise EngineDiedError(f"{self._url}: {self._scrub(str(error))}") from None
        except openai.APIStatusError as error:
            why = self._scrub(str(error))
            raise ValueError(f"{self._url} refuses the batch: {why}") from None

    def _create(self, chunk: Chunk) -> None:
        """Send a chunk. An attempt whose answer was lost may have created its batch, which would
        be paid twice: so each further attempt looks for it first.
        """
        client, lost = self._client, False

        def create() -> str:
            nonlocal lost
            if lost and (found := self._find(chunk, file.id)) is not None:
                return found
            lost = True
            batch = client.batches.create(
                input_file_id=file.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={_NAME: chunk.name},
            )
            return batch.id

        file = self._retry(lambda: client.files.create(file=chunk.requests, purpose="batch"))
        chunk.note_batch(self._retry(create))

    def _find(self, chunk: Chunk, file: str | None = None) -> str | None:
        """The id of a chunk's batch, by its name or its input file, if it was created. One that
        failed as a whole answers nothing, and is not looked for.
        """
        for batch in self._client.batches.list(limit=100):
            named = (batch.metadata or {}).get(_NAME) == chunk.name
            if (named or batch.input_file_id == file) and batch.status != "failed":
                return batch.id
        return None

    def _poll(self, chunk: Chunk) -> bool:
        """Whether a chunk's results are on disk; looks for them every `POLL_SECONDS`."""
        if chunk.results.exists():
            return True
        if time.monotonic() - chunk.polled < POLL_SECONDS:
            return False
        chunk.polled = time.monotonic()
        if chunk.batch is None and (found := self._retry(lambda: self._find(chunk))) is not None:
            chunk.note_batch(found)  # the run was killed before it could
        id_ = chunk.batch
        if id_ is None:
            self._create(chunk)
            return False
        batch = self._retry(lambda: self._client.batches.retrieve(id_))
        if batch.status not in _ENDED:
            return False
        faults = (batch.errors and batch.errors.data) or []
        if batch.status == "failed" and any(one.code == "token_limit_exceeded" for one in faults):
            chunk.forget_batch()  # the account's queue is full: sent again at the next poll
            return False
        self._fetch(chunk, batch)
        return True

    def _fetch(self, chunk: Chunk, batch: Batch) -> None:
        """Write the results of a batch that has ended."""
        faults = (batch.errors and batch.errors.data) or []
        said = "; ".join(f"{one.code}: {one.message}" for one in faults)
        note = {"custom_id": "", "status": batch.status, "said": self._scrub(said)}
        part = chunk.results.with_suffix(".part")
        with part.open("wb") as file:
            for source in filter(None, (batch.output_file_id, batch.error_file_id)):
                self._retry(lambda source=source: self._download(source, file))  # type: ignore[misc]
            file.write(b"\n" + msgspec.json.encode(note) + b"\n")
            file.flush()
            os.fsync(file.fileno())  # half of it under its name would be paid for again
        part.replace(chunk.results)
        sync_folder(self._chunks.folder)

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

    def _responses(self, chunk: Chunk, awaited: dict[str, Request]) -> Iterator[Response]:
        ended = "ended"
        for row in chunk.rows():
            if row["custom_id"] == "":
                ended = f"{row['status']} {row['said']}".strip()
            elif (request := awaited.pop(row["custom_id"], None)) is not None:
                yield self._response(row, request)
        for id_ in awaited:
            why = f"the batch {chunk.batch} was {ended} without an answer to this request"
            self._chunks.forget(id_)
            yield failed(id_, Failure(kind="passing", why=why), 0.0)

    def _response(self, row: dict[str, Any], request: Request) -> Response:
        body = (row.get("response") or {}).get("body") or row.get("error")
        reply = Reply(status=status_of(row), retry_after=None, body=msgspec.json.encode(body))
        found = read_reply(reply, self._scrub, self._max_tokens)
        if isinstance(found, Failure):
            self._chunks.forget(request.id)
            if found.usage is not None or found.maybe_billed:
                request.charge_failed(found.usage)
            return failed(request.id, found, 0.0)
        prompt = sum(estimate_tokens(message["content"]) for message in request.messages)
        return answered(request.id, found, prompt, 0.0)

    def close(self) -> None:
        """Close the connections; the endpoint still answers the batches that were sent."""
        self._worker.shutdown(wait=False, cancel_futures=True)
        self._client.close()
