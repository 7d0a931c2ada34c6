"""`engine: openai` and `tracestill serve` with vLLM's real server and the miniature teacher."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

from generate.engine import Partial, Request, Response
from generate.openai_engine import OpenaiEngine
from tracestill.commands.serve import flags, serving
from tracestill.recipe.models import LocalModel, ServedModel
from tracestill.records import Sampling

TEACHER = str(ROOT / "miniature" / "teacher")
NAME = "miniature/teacher"
QUIET = {"VLLM_LOGGING_LEVEL": "ERROR", "OMP_NUM_THREADS": "1"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def teacher(**engine_args: Any) -> Iterator[tuple[str, int]]:
    """A server of the miniature teacher: its url and its process's id."""
    port = free_port()
    arguments = {"max_num_seqs": 32, "max_num_batched_tokens": 8192, **engine_args}
    section = LocalModel(model=TEACHER, max_model_len=512, engine_args=arguments)
    with serving(section, port, **QUIET) as server:
        yield f"http://127.0.0.1:{port}/v1", server.pid


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with teacher() as (address, _):
        yield address


def questions(count: int) -> list[Request]:
    text = "3 + 4 - 2 + 6 + 1 + {}"
    return [
        Request(id=f"id{n}", messages=[{"role": "user", "content": text.format(n % 10)}], seed=n)
        for n in range(count)
    ]


def continuing(requests: list[Request], cut: dict[str, Response]) -> list[Request]:
    """The same requests, to continue the answers that were cut."""
    return [
        dataclasses.replace(
            one,
            continues=Partial(
                raw_reasoning=cut[one.id].raw_reasoning,
                token_ids=cut[one.id].token_ids,
                completion_tokens=cut[one.id].completion_tokens,
            ),
        )
        for one in requests
    ]


def ask(
    urls: list[str], requests: list[Request], max_tokens: int = 200, **fields: Any
) -> dict[str, Response]:
    model = ServedModel(**{"engine": "openai", "model": NAME, "base_urls": urls, **fields})
    sampling = Sampling(temperature=0.0, top_p=1.0, top_k=-1, max_tokens=max_tokens, seed=None)
    engine = OpenaiEngine(model, sampling)
    try:
        found = [one for one in engine.stream(requests) if one is not None]
    finally:
        engine.close()
    assert sorted(one.id for one in found) == sorted(one.id for one in requests)
    return {one.id: one for one in found}


@pytest.mark.slow
def test_a_real_server_answers(url: str) -> None:
    found = ask([url], questions(40), concurrency=16)
    assert {one.finish for one in found.values()} <= {"stop", "length"}
    one = found["id0"]
    assert one.token_ids is None
    assert "</think>" in one.raw
    assert one.raw_reasoning is None
    assert one.prompt_tokens > 10
    assert one.completion_tokens == one.new_tokens > 10


@pytest.mark.slow
def test_a_cut_answer_goes_on_token_by_token(url: str) -> None:
    asked = questions(8)
    whole = ask([url], asked, token_ids=True)
    cut = ask([url], asked, max_tokens=20, token_ids=True)
    assert {one.finish for one in cut.values()} == {"length"}
    for one in ask([url], continuing(asked, cut), token_ids=True).values():
        expected = whole[one.id]
        assert (one.token_ids, one.raw, one.finish) == (
            expected.token_ids, expected.raw, expected.finish,
        )  # fmt: skip
        assert one.completion_tokens == expected.completion_tokens
        assert one.new_tokens == expected.completion_tokens - 20
        assert one.prompt_tokens == expected.prompt_tokens


@pytest.mark.slow
def test_the_server_and_the_engine_in_this_process_say_the_same(url: str) -> None:
    """In a process of its own: vLLM holds on to what it was loaded with."""
    code = (
        "import sys; from generate.vllm_engine import Model, VllmEngine;"
        "from test_served import TEACHER, questions; from tracestill.records import Sampling;"
        "s = Sampling(temperature=0.0, top_p=1.0, top_k=-1, max_tokens=200, seed=None);"
        "e = VllmEngine(Model(path=TEACHER, max_model_len=512), s);"
        "r = {o.id: o.token_ids for o in e.stream(questions(8)) if o};"
        "print('FOUND', r); sys.stdout.flush(); import os; os._exit(0)"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, **QUIET, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=300
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("FOUND"))
    here: dict[str, list[int]] = yaml.safe_load(line.removeprefix("FOUND "))
    there = ask([url], questions(8), token_ids=True)
    assert {id_: one.token_ids for id_, one in there.items()} == here


@pytest.mark.slow
def test_what_does_not_fit_is_a_row(url: str) -> None:
    long = Request(id="long", messages=[{"role": "user", "content": "1 + " * 400}], seed=0)
    found = ask([url], [*questions(3), long], max_tokens=100_000)
    assert found["long"].finish == "skipped"
    assert "context length" in str(found["long"].error)
    assert {found[f"id{n}"].finish for n in range(3)} <= {"stop", "length"}


@pytest.mark.slow
def test_a_model_that_is_not_there_is_one_line(url: str) -> None:
    with pytest.raises(ValueError, match="knows no model 'nobody'"):
        ask([url], questions(3), model="nobody")


@pytest.mark.slow
def test_reasoning_in_a_field_of_its_own_and_a_replica_that_is_killed() -> None:
    """Two servers, one with a reasoning parser and killed in the middle: nothing lost, nothing
    twice.
    """
    with ExitStack() as stack:
        one, pid = stack.enter_context(teacher(reasoning_parser="deepseek_r1"))
        found = ask([one], questions(10), token_ids=True)
        assert all("think>" not in answer.raw for answer in found.values())
        assert all(answer.raw_reasoning for answer in found.values())
        cut = ask([one], questions(4), max_tokens=10, token_ids=True)
        again = ask([one], continuing(questions(4), cut), token_ids=True)
        assert [again[i].token_ids for i in again] == [found[i].token_ids for i in again]

        two, _ = stack.enter_context(teacher())
        threading.Timer(1.0, lambda: os.killpg(pid, signal.SIGKILL)).start()
        begin = time.monotonic()
        answered = ask([one, two], questions(1500), concurrency=32)
        assert time.monotonic() - begin > 1.0, "it was over before the replica was killed"
        assert {answer.finish for answer in answered.values()} <= {"stop", "length"}


@pytest.mark.slow
def test_serve_prints_what_a_recipe_needs_and_ends_whole(recipe: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "tracestill", "serve", str(recipe), "--port", str(port)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **QUIET}
    )
    try:
        assert process.stdout is not None
        lines = []
        while "token_ids" not in (lines[-1] if lines else ""):
            lines.append(process.stdout.readline())
            assert lines[-1], "it ended before it answered"
        begin = next(n for n, line in enumerate(lines) if line.startswith("generate:"))
        section = yaml.safe_load("".join(lines[begin:]))["generate"]
        assert len(ask(section["base_urls"], questions(2), token_ids=section["token_ids"])) == 2
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert "has ended" in process.stdout.read()
    finally:
        process.kill()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_port_that_is_taken_and_a_teacher_that_is_served_already() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with (
            pytest.raises(ValueError, match="--port"),
            serving(LocalModel(model=TEACHER), taken.getsockname()[1]),
        ):
            pass
    model = ServedModel(engine="openai", model="m", base_urls=["http://x/v1"])
    with pytest.raises(ValueError, match="has a server"), serving(model, 1):
        pass


def test_engine_arguments_as_flags() -> None:
    arguments = {
        "tensor_parallel_size": 2, "enforce_eager": True, "enable_prefix_caching": False,
        "revision": None, "hf_overrides": {"a": 1}, "allowed_origins": ["a", "b"],
    }  # fmt: skip
    assert flags(arguments) == [
        "--tensor-parallel-size", "2", "--enforce-eager", "--no-enable-prefix-caching",
        "--hf-overrides", '{"a": 1}', "--allowed-origins", "a", "b",
    ]  # fmt: skip
