"""llama.cpp in this process: a GGUF file answers the prompts that its model's tokenizer makes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from generate.answers import answer_of
from generate.engine import EngineDiedError, Request, Response, failed_response
from generate.prompts import render_prompt, why_unsent
from generate.reasoning import think_tokens
from tracestill.records import Finish, Sampling
from tracestill.records.tokenizers import mended

_AT_ONCE = 8  # answers, which share the reading of the weights
_CELLS = 32_768  # tokens of context for all of them, where one alone does not need more
_BATCH = 512  # tokens read in one step
_PAUSE = 0.01  # seconds before the next poll for a request, where nothing runs
_END: Any = object()


@dataclass(slots=True, kw_only=True)
class _Running:
    """An answer in the making, in its place in llama.cpp's memory: token ids that were not read
    yet, how many were, and those that were drawn.
    """

    id: str
    prompt: int
    prefill: str
    unread: list[int]
    sampler: Any
    most: int
    begin: float
    read: int = 0
    drawn: list[int] = field(default_factory=list)


class LlamaCppEngine:
    """An engine of one GGUF file with fixed sampling parameters.

    Prompts are made and answers read with the tokenizer of the model that the file was made of:
    `tracestill export` sees to it that llama.cpp's tokens are the same.
    """

    name = "llama.cpp"
    continues = False

    def __init__(
        self,
        file: Path,
        tokenizer: Path,
        sampling: Sampling,
        *,
        max_model_len: int | None = None,
        chat_template: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        """Load the file. `tokenizer` is a model's folder, `max_model_len` in tokens; without it
        prompt and answer may take what the model was trained for.

        Raises:
            ValueError: llama.cpp can't load the file.
            ModuleNotFoundError: llama-cpp-python is not installed.

        """
        import llama_cpp
        from llama_cpp._logger import set_verbose
        from transformers import AutoTokenizer

        set_verbose(False)
        self._lib: Any = llama_cpp
        self.version: str = llama_cpp.__version__
        self.sampling = sampling
        self._path, self._chat_template = str(tokenizer), chat_template
        loaded = AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=trust_remote_code)
        self._tokenizer = mended(loaded, self._path, None)
        self._think = think_tokens(self._tokenizer)
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(
            str(file).encode(), llama_cpp.llama_model_default_params()
        )
        if not self._model:
            raise ValueError(f"llama.cpp can't load {file}")
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)
        self.max_model_len: int = max_model_len or llama_cpp.llama_model_n_ctx_train(self._model)
        self._batch = llama_cpp.llama_batch_init(_BATCH, 0, 1)
        self._context: Any = None
        self._places: list[_Running | None] = []
        self._room = 0  # tokens in each place

    def stream(self, requests: Iterable[Request | None]) -> Iterator[Response | None]:
        """See `Engine.stream`."""
        waiting = iter(requests)
        held: _Running | None = None
        exhausted = False
        while True:
            while not exhausted:
                if held is None:
                    request = next(waiting, _END)
                    exhausted = request is _END
                    if exhausted or request is None:
                        break
                    taken = self._take(cast(Request, request))
                    if isinstance(taken, Response):
                        yield taken
                        continue
                    held = taken
                if not self._placed(held):
                    break
                held = None
            if any(self._places):
                yield from self._step()
            elif exhausted:
                return
            else:  # the caller has no request yet
                time.sleep(_PAUSE)
            yield None

    def _take(self, request: Request) -> _Running | Response:
        """A request as what llama.cpp is to read, or a response where it can't be answered."""
        ids, prefill = render_prompt(self._tokenizer, request, self._chat_template, self._path)
        if (why := why_unsent(self._tokenizer, ids, request)) is not None:
            return failed_response(request.id, why)
        most = min(self.sampling.max_tokens, self.max_model_len - len(ids))
        if most < 1:
            why = f"the prompt's {len(ids)} tokens fill the context of {self.max_model_len}"
            return replace(failed_response(request.id, why), finish="skipped")
        return _Running(
            id=request.id, prompt=len(ids), prefill=prefill, unread=ids, most=most,
            sampler=self._sampler(request.seed), begin=time.monotonic(),
        )  # fmt: skip

    def _sampler(self, seed: int | None) -> Any:
        """What draws tokens as vLLM does: temperature first, then top-p; top-k changes nothing by
        its place, and leaves less to sort.
        """
        lib, sampling = self._lib, self.sampling
        chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        if sampling.temperature == 0:
            parts = [lib.llama_sampler_init_greedy()]
        else:
            parts = [lib.llama_sampler_init_top_k(sampling.top_k)] if sampling.top_k > 0 else []
            parts += [
                lib.llama_sampler_init_temp(sampling.temperature),
                lib.llama_sampler_init_top_p(sampling.top_p, 1),
                lib.llama_sampler_init_dist(
                    lib.LLAMA_DEFAULT_SEED if seed is None else seed  # a seed of its own choice
                ),
            ]
        for part in parts:
            lib.llama_sampler_chain_add(chain, part)
        return chain

    def _placed(self, one: _Running) -> bool:
        """Give an answer a place, if one is free. Where it needs a longer one than there are, it
        waits until none is taken, and the places are made anew.
        """
        needed = one.prompt + one.most
        if needed > self._room:
            if any(self._places):
                return False
            self._make_places(needed)
        if None not in self._places:
            return False
        self._places[self._places.index(None)] = one
        return True

    def _make_places(self, room: int) -> None:
        lib = self._lib
        if self._context is not None:
            lib.llama_free(self._context)
        places = max(1, min(_AT_ONCE, _CELLS // room))
        parameters = lib.llama_context_default_params()
        parameters.n_ctx = places * (-(-room // 256) * 256)  # llama.cpp allots it in such pieces
        parameters.n_seq_max = places
        parameters.n_batch = _BATCH
        parameters.n_threads = parameters.n_threads_batch = len(os.sched_getaffinity(0))
        self._context = lib.llama_init_from_model(self._model, parameters)
        if not self._context:
            raise EngineDiedError(f"llama.cpp has no memory for {places} answers of {room} tokens")
        self._places, self._room = [None] * places, room

    def _step(self) -> Iterator[Response]:
        """Let llama.cpp read what is unread, as far as a batch holds it, and draw a token for each
        answer that was read whole.
        """
        lib, batch, size = self._lib, self._batch, 0
        due = []
        for place, one in enumerate(self._places):
            if one is None or size == _BATCH:
                continue
            taken, one.unread = one.unread[: _BATCH - size], one.unread[_BATCH - size :]
            for token in taken:
                batch.token[size], batch.pos[size] = token, one.read
                batch.n_seq_id[size], batch.seq_id[size][0] = 1, place
                batch.logits[size] = False
                one.read += 1
                size += 1
            if not one.unread:
                batch.logits[size - 1] = True
                due.append((place, one, size - 1))
        batch.n_tokens = size
        if failed := lib.llama_decode(self._context, batch):
            raise EngineDiedError(f"llama.cpp: llama_decode failed with {failed}")
        for place, one, row in due:
            token = lib.llama_sampler_sample(one.sampler, self._context, row)
            one.drawn.append(token)
            one.unread = [token]
            ended = lib.llama_vocab_is_eog(self._vocab, token)
            if ended or len(one.drawn) == one.most:
                lib.llama_sampler_free(one.sampler)
                memory = lib.llama_get_memory(self._context)
                lib.llama_memory_seq_rm(memory, place, -1, -1)
                self._places[place] = None
                yield self._response(one, "stop" if ended else "length")

    def _response(self, one: _Running, finish: Finish) -> Response:
        return answer_of(
            self._tokenizer, self._think, id_=one.id, prompt=one.prompt, prefill=one.prefill,
            ids=one.drawn, new=len(one.drawn), finish=finish, begin=one.begin,
            engine=self.name,
        )  # fmt: skip

    def close(self) -> None:
        """Free the model's memory."""
        lib = self._lib
        lib.llama_batch_free(self._batch)
        if self._context is not None:
            lib.llama_free(self._context)
        lib.llama_model_free(self._model)
