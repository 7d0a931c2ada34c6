"""`engine: openai` against a server that does what the test says, and against the real one."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from scripted import Scripted, completion, reply, scripted

from generate.budget import BudgetReachedError
from generate.engine import EngineDiedError, Request, Response, Usage
from generate.job import SamplingJob
from generate.openai_engine import OpenaiEngine
from generate.sampling import sample_missing
from generate.served import replicas
from generate.stopping import fixed
from generate.teacher import as_teacher
from tracestill.recipe.generate import Budget
from tracestill.recipe.models import ServedModel
from tracestill.records import Problem, Sampling
from tracestill.records import journal as journals
from tracestill.records.progress import ignore_progress

USAGE = Usage(prompt_tokens=3, completion_tokens=7)
KEY = "sk-test-0123456789abcdef"
SAMPLING = Sampling(temperature=0.5, top_p=0.9, top_k=-1, max_tokens=100, seed=None)


def served(*urls: str, **fields: Any) -> ServedModel:
    return ServedModel(**{"engine": "openai", "model": "m", "base_urls": list(urls), **fields})


def questions(count: int) -> list[Request]:
    return [
        Request(id=f"id{n}", messages=[{"role": "user", "content": f"q{n}"}], seed=n)
        for n in range(count)
    ]


def ask(
    model: ServedModel, requests: Iterable[Request | None], state: Path | None = None
) -> dict[str, Response]:
    engine = OpenaiEngine(model, SAMPLING, state)
    try:
        found = [one for one in engine.stream(requests) if one is not None]
    finally:
        engine.close()
    by_id = {one.id: one for one in found}
    assert len(by_id) == len(found), "a request was answered twice"
    return by_id


def test_a_request_says_all_and_a_response_is_what_came() -> None:
    with scripted(lambda *_: reply(completion("4", message={"reasoning_content": "a"}))) as server:
        model = served(server.url, extra_body={"min_p": 0.1, "top_p": None})
        (found,) = ask(model, questions(1)).values()
    assert server.asked == [
        {
            "model": "m", "messages": [{"role": "user", "content": "q0"}], "temperature": 0.5,
            "max_tokens": 100, "seed": 0, "min_p": 0.1,
        }
    ]  # fmt: skip
    assert (found.raw, found.raw_reasoning, found.finish, found.error) == ("4", "a", "stop", None)
    assert (found.prompt_tokens, found.completion_tokens, found.new_tokens) == (3, 7, 7)


FINAL = [
    # (the reply, then what becomes of it: finish, raw, reasoning, a part of the error)
    (completion("x", message={"reasoning": "r"}), ("stop", "x", "r", None)),
    (completion("x", choice={"finish_reason": "length"}), ("length", "x", None, None)),
    (completion("x", choice={"finish_reason": "eos"}), ("stop", "x", None, None)),
    (
        completion("x", choice={"finish_reason": "content_filter"}),
        ("error", "x", None, "content_filter"),
    ),
    (completion("", message={"content": None}), ("stop", "", None, None)),
    (
        completion("", message={"content": None, "reasoning": "r"}),
        ("stop", "", "r", None),
    ),
    (completion("", message={"content": None, "refusal": "no"}), ("stop", "no", None, None)),
    (completion("x", message={"thinking": "r"}), ("stop", "x", "r", None)),
    (completion("x", message={"reasoning": True, "thinking": "r"}), ("stop", "x", "r", None)),
    (completion("x", message={"reasoning": {"content": "r"}}), ("stop", "x", "r", None)),
    (  # Mistral's chunks
        completion(message={"content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": "r"}], "closed": True},
            {"type": "text", "text": "x"},
        ]}),
        ("stop", "x", "r", None),
    ),
    (completion(message={"content": ["x", {"type": "output_text", "text": "y"}]}),
     ("stop", "xy", None, None)),
    (  # OpenRouter's details
        completion("x", message={"reasoning": None, "reasoning_details": [
            {"type": "reasoning.encrypted", "data": "gAAA"},
            {"type": "reasoning.summary", "summary": "s"},
            {"type": "reasoning.text", "text": "r"},
        ]}),
        ("stop", "x", "r", None),
    ),
    (  # a model that hides its reasoning
        completion("x", message={"reasoning_details": [
            {"type": "reasoning.summary", "summary": "s"},
            {"type": "reasoning.encrypted", "data": "gAAA"},
        ]}),
        ("stop", "x", "s", None),
    ),
    (completion("x", message={"reasoning_details": [{"type": "reasoning.encrypted", "data": "g"}]}),
     ("stop", "x", None, None)),
    (completion("a\ud800b \ud83d\ude00", message={"reasoning": "\udc00"}),
     ("stop", "a\ufffdb \U0001f600", "\ufffd", None)),
]  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), FINAL)
def test_what_an_answer_may_look_like(body: Any, expected: tuple[Any, ...]) -> None:
    with scripted(lambda *_: reply(body)) as server:
        (found,) = ask(served(server.url), questions(1)).values()
    assert (found.finish, found.raw, found.raw_reasoning) == expected[:3]
    assert found.error is None if expected[3] is None else expected[3] in (found.error or "")


def test_usage_that_is_missing_is_estimated_and_a_cost_is_taken() -> None:
    bodies = [
        completion("12345678", usage=None),
        completion("12345678", usage=None, choice={"token_ids": [1, 2, 3]}),
        completion("1", usage={"prompt_tokens": 5, "completion_tokens": 6, "cost": 0.25}),
    ]
    with scripted(lambda _, body, __: reply(bodies[body["seed"]])) as server:
        found = ask(served(server.url), questions(3))
    counts = [(found[f"id{n}"].completion_tokens, found[f"id{n}"].cost) for n in range(3)]
    assert counts == [(2, None), (3, None), (6, 0.25)]
    assert found["id0"].prompt_tokens == 1


PASSING = {
    "garbage": reply(b"\x00\xff\xfe garbage"),
    "html": reply(b"<html><body>502 Bad Gateway</body></html>"),
    "half JSON": reply(b'{"choices": [{"message": {"content": "ab'),
    "not UTF-8": reply(b'{"choices": [{"message": {"content": "\xff\xfe"}}]}'),
    "no object": reply(["a"]),
    "an error body": reply({"error": {"message": "overloaded", "code": 502}}),
    "an error text": reply({"error": "try later"}),
    "no choices": reply(completion() | {"choices": []}),
    "null choices": reply(completion() | {"choices": None}),
    "no finish": reply(completion("half", choice={"finish_reason": None})),
    "a list as content": reply(completion(message={"content": [1]})),
    "408": reply({}, 408),
    "409": reply({}, 409),
    "500": reply(b"Internal Server Error", 500),
    "524": reply(b"<html>timeout</html>", 524),
    "429": reply({"error": {"message": "slow down"}}, 429),
    "503": reply({}, 503, **{"Retry-After": "0"}),
}


def _copy(response: web.Response) -> web.Response:
    return web.Response(body=response.body, status=response.status, headers=dict(response.headers))


def test_what_may_pass_is_asked_again() -> None:
    names = list(PASSING)

    def answer(_: web.Request, body: dict[str, Any], before: int) -> web.Response:
        return reply(completion()) if before else _copy(PASSING[names[body["seed"]]])

    with scripted(answer) as server:
        found = ask(served(server.url), questions(len(names)))
    assert {names[int(id_[2:])]: one.finish for id_, one in found.items()} == dict.fromkeys(
        names, "stop"
    )
    assert set(server.times.values()) == {2}


@pytest.mark.parametrize("name", ["garbage", "html", "half JSON", "an error text", "no finish"])
def test_what_does_not_pass_is_a_row_that_shows_what_came(name: str) -> None:
    def answer(_: web.Request, body: dict[str, Any], __: int) -> web.Response:
        return _copy(PASSING[name]) if body["seed"] == 0 else reply(completion())

    with scripted(answer) as server:
        found = ask(served(server.url, retries=1), questions(2))
    assert found["id0"].finish == "error"
    shown = {"garbage": "garbage", "html": "Bad Gateway", "half JSON": "choices"}.get(name, "")
    assert shown in str(found["id0"].error)
    assert len(str(found["id0"].error)) < 300
    assert found["id0"].raw == ("half" if name == "no finish" else "")  # what came is kept
    assert found["id1"].finish == "stop"
    assert server.times["q0"] == 2


@pytest.mark.parametrize(
    "broken",
    [
        completion("half", choice={"finish_reason": None}),
        completion("half", choice={"finish_reason": {"type": "stop"}}),
        completion(message={"content": [1]}),
        completion(message={"content": [{"type": "image_url", "image_url": {"url": "x"}}]}),
    ],
)
def test_what_will_come_again_is_asked_for_twice(broken: Any) -> None:
    with scripted(lambda *_: reply(broken)) as server:
        (found,) = ask(served(server.url, retries=8), questions(1)).values()
    assert (found.finish, server.times) == ("error", {"q0": 2})


UNSAID = {"finish_reason": None}
LONG = {"prompt_tokens": 3, "completion_tokens": 100}


@pytest.mark.parametrize(
    ("body", "whole"),
    [
        (completion("<think>a</think>It is $4$.", choice=UNSAID), True),
        (completion("a</think>\\boxed{4}", choice=UNSAID), True),
        (completion("<think>a</think>4<|im_end|>", choice=UNSAID), True),
        (completion("Four.", choice=UNSAID, message={"reasoning": "a"}), True),
        (completion("<think>a</think>4", choice=UNSAID), False),  # perhaps of 42
        (completion("<think>a</think>\\boxed{\\frac{1}{2}", choice=UNSAID), False),
        (completion("<think>a</think>```python\nf()", choice=UNSAID), False),
        (completion("<think>It is 4.", choice=UNSAID), False),
        (completion("<think>a</think>", choice=UNSAID), False),
        (completion("It is 4.", choice=UNSAID), False),
        (completion("<think>a</think>Four.", choice=UNSAID, usage=None), False),
        (completion("<think>a</think>Four.", choice=UNSAID, usage=LONG), False),
        (completion("<think>a</think>Four.", choice={**UNSAID, "error": "died"}), False),
    ],
)
def test_a_whole_answer_needs_no_finish_reason(body: Any, whole: bool) -> None:
    with scripted(lambda *_: reply(body)) as server:
        (found,) = ask(served(server.url, retries=1), questions(1)).values()
    assert (found.finish, server.times["q0"]) == (("stop", 1) if whole else ("error", 2))
    assert found.raw == body["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("status", "said", "finish"),
    [
        (400, "This model's maximum context length is 8 tokens", "skipped"),
        (400, "context_length_exceeded", "skipped"),
        (400, "prompt is too long: 9 tokens > 8 maximum", "skipped"),
        (400, "temperature must be below 2", "error"),
        (422, "what is this", "error"),
        (404, "no route", "error"),
        (301, "moved", "error"),
    ],
)
def test_what_never_passes_is_asked_once(status: int, said: str, finish: str) -> None:
    def answer(_: web.Request, body: dict[str, Any], __: int) -> web.Response:
        if body["seed"] == 0:
            return reply({"error": {"message": said}}, status, Location="http://127.0.0.1:9/")
        return reply(completion())

    first, second = questions(2)
    with scripted(answer) as server:
        found = ask(served(server.url, concurrency=1), [second, first])
    assert found["id0"].finish == finish
    assert said in str(found["id0"].error)
    assert found["id1"].finish == "stop"
    assert server.times == {"q0": 1, "q1": 1}


FATAL = [
    (401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}, "TEACHER_KEY"),
    (403, {"error": {"message": f"no access with Bearer {KEY}"}}, "TEACHER_KEY"),
    (402, {"error": {"message": "Insufficient Balance"}}, "no credit"),
    (429, {"error": {"code": "insufficient_quota", "message": "check your plan"}}, "no credit"),
    (404, {"error": {"message": "The model `m` does not exist."}}, "'m'"),
]


@pytest.mark.parametrize(("status", "body", "named"), FATAL)
def test_what_nobody_but_the_user_can_mend_ends_the_run(
    status: int, body: Any, named: str, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("TEACHER_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    with scripted(lambda *_: reply(body, status)) as server:
        with pytest.raises(ValueError, match=named) as caught:
            ask(served(server.url, api_key_env="TEACHER_KEY", concurrency=4), questions(40))
        assert len(server.asked) <= 8
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    chain = [repr(caught.value), *caplog.messages, *capfd.readouterr()]
    assert not [text for text in chain if KEY[3:] in text]
    assert "\n" not in str(caught.value)


def test_what_was_in_flight_is_answered_before_the_run_ends() -> None:
    async def answer(_: web.Request, body: dict[str, Any], __: int) -> web.Response:
        await asyncio.sleep(0.5 if body["seed"] == 0 else 0.1)
        return reply(completion()) if body["seed"] == 0 else reply({}, 401)

    with scripted(answer) as server:
        engine = OpenaiEngine(served(server.url, concurrency=4), SAMPLING)
        found: list[Response] = []
        with pytest.raises(ValueError, match="api_key_env"):
            found.extend(one for one in engine.stream(questions(100)) if one is not None)
        engine.close()
    assert [one.id for one in found] == ["id0"]
    assert len(server.asked) <= 8


def test_a_key_that_is_refused_at_the_door_or_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(lambda *_: reply(completion())) as server:
        model = served(server.url, api_key_env="TEACHER_KEY")
        monkeypatch.delenv("TEACHER_KEY", raising=False)
        with pytest.raises(ValueError, match="TEACHER_KEY is not set"):
            ask(model, questions(1))
        monkeypatch.setenv("TEACHER_KEY", f"{KEY} {KEY}")
        with pytest.raises(ValueError, match="holds no API key") as caught:
            ask(model, questions(1))
        assert KEY not in str(caught.value)
        monkeypatch.setenv("TEACHER_KEY", f"{KEY}\n")  # as a file gives it
        server.models = lambda: reply({}, 401)
        with pytest.raises(ValueError, match="variable TEACHER_KEY"):
            ask(model, questions(1))
        assert not server.asked


def test_nobody_there_at_the_start_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"http://127.0.0.1:9/v1.*tracestill serve") as caught:
        ask(served("http://127.0.0.1:9/v1"), questions(1))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="an endpoint begins with http"):
        ask(served("localhost:8000/v1"), questions(1))


def test_the_official_client_waits_and_reads_as_the_plain_one_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY)
    names = list(PASSING)

    def answer(_: web.Request, body: dict[str, Any], before: int) -> web.Response:
        return reply(completion()) if before else _copy(PASSING[names[body["seed"]]])

    with scripted(answer) as server:
        found = ask(served(server.url, api_key_env="TEACHER_KEY"), questions(len(names)))
    assert {one.finish for one in found.values()} == {"stop"}
    assert not [one for one in found.values() if KEY in repr(one)]


@pytest.mark.parametrize("key", [None, "TEACHER_KEY"])
def test_requests_go_where_the_check_of_hosts_says(
    monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    """Another host is asked through the environment's proxy, this machine never is; nor is a
    redirect followed.
    """
    monkeypatch.setenv("TEACHER_KEY", KEY)
    for name in ("no_proxy", "NO_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with (
        scripted(lambda *_: reply(completion("through the proxy"))) as proxy,
        scripted(lambda *_: reply({}, 307, Location=f"{proxy.url}/chat/completions")) as local,
    ):
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        (far,) = ask(served("http://teacher.invalid/v1", api_key_env=key), questions(1)).values()
        assert far.raw == "through the proxy"
        assert proxy.headers[0]["Host"] == "teacher.invalid"
        (near,) = ask(served(local.url, api_key_env=key), questions(1)).values()
        assert near.finish == "error"
        assert "status 307" in str(near.error)
        assert len(local.asked) == len(proxy.asked) == 1


@pytest.mark.parametrize("dated", [False, True])
def test_retry_after_is_kept_to_by_all(dated: bool) -> None:
    moments: list[float] = []

    def answer(_: web.Request, __: dict[str, Any], ___: int) -> web.Response:
        moments.append(time.monotonic())
        if len(moments) > 1:
            return reply(completion())
        when = format_datetime(datetime.now(UTC) + timedelta(seconds=2.5), usegmt=True)
        return reply({}, 429, **{"Retry-After": when if dated else "1.5"})

    with scripted(answer) as server:
        ask(served(server.url, concurrency=1), questions(3))
    assert moments[1] - moments[0] >= 1.4


def test_a_storm_of_429_loses_nothing_and_calms_the_client() -> None:
    """A server that bears four at once and refuses the rest for three seconds."""
    begin = time.monotonic()
    server: Scripted

    async def answer(_: web.Request, __: dict[str, Any], ___: int) -> web.Response:
        if server.in_flight > 4 and time.monotonic() - begin < 3:
            return reply({}, 429, **{"Retry-After": "0.2"})
        await asyncio.sleep(0.01)
        return reply(completion())

    with scripted(answer) as server:
        found = ask(served(server.url, concurrency=64, retries=2), questions(200))
    assert {one.finish for one in found.values()} == {"stop"}
    assert len(found) == 200
    assert len(server.asked) < 2 * 200  # far fewer refusals than answers


def test_a_server_that_is_gone_and_back_loses_nothing() -> None:
    server: Scripted

    async def answer(_: web.Request, __: dict[str, Any], ___: int) -> web.Response:
        await asyncio.sleep(0.1)
        return reply(completion())

    def outage() -> None:
        time.sleep(0.4)
        server.stop()
        time.sleep(2)
        server.start()

    with scripted(answer) as server:
        thread = threading.Thread(target=outage)
        thread.start()
        found = ask(served(server.url, concurrency=8, retries=1), questions(100))
        thread.join()
    assert {one.finish for one in found.values()} == {"stop"}
    assert len(found) == 100


def test_servers_that_stay_away_end_what_was_asked_and_then_the_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replicas, "PATIENCE", 1.0)

    def answer(_: web.Request, body: dict[str, Any], ___: int) -> web.Response:
        if body["seed"] == 5:
            threading.Thread(target=server.stop).start()
        return reply(completion())

    with scripted(answer) as server:
        engine = OpenaiEngine(served(server.url, concurrency=2), SAMPLING)
        found: list[Response] = []
        with pytest.raises(EngineDiedError, match="no endpoint has answered"):
            found.extend(one for one in engine.stream(questions(1000)) if one is not None)
        engine.close()
    failed = [one for one in found if one.finish == "error"]
    assert 1 <= len(failed) <= 4
    assert "no endpoint has answered" in str(failed[0].error)
    assert len({one.id for one in found}) == len(found) < 1000


def test_a_dead_replica_is_left_out_and_taken_back() -> None:
    async def slow(*_: Any) -> web.Response:
        await asyncio.sleep(0.02)
        return reply(completion())

    with scripted(slow) as one, scripted(slow) as two:
        dead = served(one.url, two.url, concurrency=4)
        two.stop()
        assert len(ask(dead, questions(20))) == 20  # there from the start: the other only
        assert not two.asked

        def back() -> None:
            time.sleep(0.5)
            two.start()

        thread = threading.Thread(target=back)
        thread.start()
        assert len(ask(dead, questions(400))) == 400
        thread.join()
    assert len(two.asked) > 20
    assert len(one.asked) + len(two.asked) == 420


def test_a_replica_that_always_fails_does_not_draw_the_requests() -> None:
    async def good(*_: Any) -> web.Response:
        await asyncio.sleep(0.02)
        return reply(completion())

    with scripted(good) as one, scripted(lambda *_: reply({}, 500)) as bad:
        found = ask(served(one.url, bad.url, concurrency=8), questions(200))
    assert {answer.finish for answer in found.values()} == {"stop"}
    assert len(bad.asked) < 60


def test_a_replica_that_goes_deaf_gives_its_requests_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes connections and says nothing more, as behind a cut cable."""
    from generate.served import client

    monkeypatch.setattr(replicas, "WATCH", 0.2)
    monkeypatch.setattr(client, "PROBE_SECONDS", 0.2)

    async def never(*_: Any) -> web.Response:
        deaf.models = lambda: time.sleep(0.5) or reply({})  # type: ignore[func-returns-value]
        await asyncio.sleep(600)
        return reply(completion())

    with scripted(lambda *_: reply(completion())) as one, scripted(never) as deaf:
        found = ask(served(one.url, deaf.url, concurrency=4), questions(20))
    assert {answer.finish for answer in found.values()} == {"stop"}


def test_a_slow_answer_is_waited_for_and_an_endless_one_is_not() -> None:
    async def answer(_: web.Request, body: dict[str, Any], __: int) -> web.Response:
        await asyncio.sleep(0.6 if body["seed"] == 0 else 60)
        return reply(completion())

    with scripted(answer) as server:
        engine = OpenaiEngine(served(server.url, timeout=1.5, retries=0), SAMPLING)
        begin, seen, ticks = time.monotonic(), {}, []
        for one in engine.stream(questions(1)):
            ticks.append(time.monotonic())
            if one is not None:
                seen[one.id] = one
        engine.close()
        (late,) = ask(served(server.url, timeout=0.3, retries=1), questions(2)[1:]).values()
    assert late.finish == "error"
    assert "within 0.3 s" in str(late.error)
    assert server.times["q1"] == 2
    assert seen["id0"].finish == "stop"
    assert 0.5 < seen["id0"].seconds < 1.4
    gaps = [b - a for a, b in zip([begin, *ticks], ticks, strict=False)]
    assert max(gaps) < 1.0


def test_requests_are_taken_as_there_is_room() -> None:
    taken: list[int] = []

    def source() -> Iterator[Request | None]:
        for number, request in enumerate(questions(300)):
            taken.append(number)
            yield request
            if number % 50 == 0:
                yield None

    async def answer(*_: Any) -> web.Response:
        await asyncio.sleep(0.002)
        return reply(completion())

    with scripted(answer) as server:
        engine = OpenaiEngine(served(server.url, concurrency=8), SAMPLING)
        done = 0
        for one in engine.stream(source()):
            done += one is not None
            assert len(taken) - done <= 10
        engine.close()
    assert done == 300
    assert server.most == 8


def test_a_stream_that_is_left_leaves_nothing_behind() -> None:
    async def answer(_: web.Request, body: dict[str, Any], __: int) -> web.Response:
        await asyncio.sleep(0.01 if body["seed"] % 2 else 60)
        return reply(completion())

    with scripted(answer) as server:
        engine = OpenaiEngine(served(server.url, concurrency=4), SAMPLING)
        stream = engine.stream(questions(10))
        assert next(one for one in stream if one is not None).id == "id1"
        stream.close()  # type: ignore[attr-defined]
        again = engine.stream([questions(2)[1]])
        assert [one.id for one in again if one is not None] == ["id1"]
        left = engine.stream(questions(10))
        assert next(one for one in left if one is not None).id == "id1"
        engine.close()
        left.close()  # type: ignore[attr-defined]  # as when it is let go of after the engine
    assert not [one for one in threading.enumerate() if one.name == "openai-engine"]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [({"requests_per_minute": 600}, 2.0), ({"tokens_per_minute": 1200}, 2.0)],
)
def test_rate_limits_hold(limit: dict[str, int], expected: float) -> None:
    """Thirty requests at ten a second; 60 tokens at twenty a second. A second is saved up."""
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    sampling = Sampling(temperature=1.0, top_p=1.0, top_k=-1, max_tokens=2, seed=None)
    with scripted(lambda *_: reply(completion(usage=usage))) as server:
        engine = OpenaiEngine(served(server.url, **limit), sampling)
        begin = time.monotonic()
        count = 30 if "requests_per_minute" in limit else 20
        assert len([one for one in engine.stream(questions(count)) if one]) == count
        took = time.monotonic() - begin
        engine.close()
    assert expected - 0.2 <= took <= expected + 1.5


def _breaks(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return reply({})


BILLED: list[tuple[Callable[[web.Request], web.Response], list[Usage | None]]] = [
    # (what comes of the first attempt, what is charged for it)
    (_breaks, [None]),
    (lambda _: reply(b"<html>"), [None]),
    (lambda _: reply(completion(message={"content": [1]})), [USAGE]),
    (lambda _: reply(completion(message={"content": [1]}, usage=None)), [None]),
    (lambda _: reply(completion("half", choice={"finish_reason": None})), [USAGE]),
    (lambda _: reply(completion(error={"message": "died"})), [USAGE]),
    (lambda _: reply({"error": "died"}), [None]),
    (lambda _: reply({"usage": completion()["usage"]}, 500), [USAGE]),
    (lambda _: reply({}, 502), [None]),
    (lambda _: reply({}, 500), []),
    (lambda _: reply({}, 429), []),
    (lambda _: reply({"error": {"message": "wait", "code": 429}}), []),
]


def test_failed_attempts_that_may_be_billed_are_charged() -> None:
    charged: list[list[Usage | None]] = [[] for _ in BILLED]

    def charge(number: int, usage: Usage | None) -> bool:
        charged[number].append(usage)
        return True

    def answer(request: web.Request, body: dict[str, Any], before: int) -> web.Response:
        return reply(completion()) if before else BILLED[body["seed"]][0](request)

    requests = [
        dataclasses.replace(one, charge_failed=functools.partial(charge, number))
        for number, one in enumerate(questions(len(BILLED)))
    ]
    with scripted(answer) as server:
        found = ask(served(server.url), requests)
    assert {one.finish for one in found.values()} == {"stop"}
    assert charged == [charges for _, charges in BILLED]


def test_what_the_budget_does_not_cover_is_not_retried() -> None:
    (request,) = questions(1)
    request = dataclasses.replace(request, charge_failed=lambda usage: False)
    with scripted(lambda *_: reply(completion("half", choice={"finish_reason": None}))) as server:
        (found,) = ask(served(server.url), [request]).values()
    assert server.times == {"q0": 1}
    assert (found.finish, found.raw, found.new_tokens) == ("error", "half", 0)
    assert "the budget covers no further attempt" in str(found.error)


def test_a_server_that_breaks_off_does_not_outspend_the_budget(tmp_path: Path) -> None:
    """It never ends an answer, and each try costs 96 tokens."""
    usage = {"prompt_tokens": 6, "completion_tokens": 90}
    body = completion("half", choice={"finish_reason": None}, usage=usage)
    problems = [
        Problem(id=f"p{n}", prompt=f"p{n}", reference="", kind="open", source="s")
        for n in range(30)
    ]
    with scripted(lambda *_: reply(body)) as server:
        model = served(server.url, retries=4)
        job = SamplingJob(
            teacher=as_teacher(model, SAMPLING),
            open_engine=lambda: OpenaiEngine(model, SAMPLING),
            rule=fixed(1),
            journal=tmp_path / "journal.jsonl",
            seed=0,
            budget=Budget(tokens=1_200),
        )
        for _ in range(2):
            with pytest.raises(BudgetReachedError, match="of 1,200 tokens"):
                sample_missing(problems, job, ignore_progress)
            assert 96 * len(server.asked) <= 1_200
    rows = [row for row, _ in journals.read(job.journal)]
    assert sum(row["spent"] for row in rows) == 96 * len(server.asked)


class FakeBatches:
    """The files and batches of an OpenAI-style endpoint; `ready` opens the results."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.ready = True
        self.lost = 0
        """How many batches are yet to be created without an answer that says so."""

    def _results(self, data: bytes) -> bytes:
        rows = []
        for line in data.splitlines():
            row = json.loads(line)
            bad = row["body"]["seed"] == 1
            body = {"error": {"message": "server error"}} if bad else completion(row["custom_id"])
            response = {"status_code": 500 if bad else 200, "body": body}
            rows.append({"custom_id": row["custom_id"], "response": response, "error": None})
        return "\n".join(map(json.dumps, rows)).encode()

    def __call__(self, request: web.Request, data: bytes) -> web.Response:
        parts = request.path.removeprefix("/v1/").split("/")
        if parts == ["files"]:
            boundary = request.headers["Content-Type"].partition("boundary=")[2].encode()
            (part,) = [p for p in data.split(b"--" + boundary) if b'name="file"' in p]
            id_ = f"file-{len(self.files)}"
            self.files[id_] = part.partition(b"\r\n\r\n")[2].strip()
            return _json({"id": id_, "object": "file", "purpose": "batch"})
        if parts[0] == "files":
            return web.Response(body=self.files[parts[1]])
        if parts == ["batches"] and request.method == "POST":
            asked = json.loads(data)
            id_ = f"batch-{len(self.batches)}"
            output = f"out-{id_}"
            self.files[output] = self._results(self.files[asked["input_file_id"]])
            self.batches[id_] = {
                "id": id_, "object": "batch", "created_at": 0, "status": "in_progress",
                "output_file_id": output, **asked,
            }  # fmt: skip
            if self.lost:
                self.lost -= 1
                return _breaks(request)
            return _json(self.batches[id_])
        if parts == ["batches"]:
            rows = list(self.batches.values())[::-1]
            return _json({"object": "list", "data": rows, "has_more": False})
        batch = self.batches[parts[1]]
        return _json(batch | {"status": "completed" if self.ready else "in_progress"})


def _json(body: Any) -> web.Response:
    return web.json_response(body)


def test_batches_are_paid_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from generate.served import batch

    monkeypatch.setenv("TEACHER_KEY", KEY)
    monkeypatch.setattr(batch, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(batch, "MOST_LINES", 4)
    fake = FakeBatches()
    with scripted(lambda *_: reply({}, 500)) as server:
        server.other = fake
        model = served(server.url, api_key_env="TEACHER_KEY", batch=True)
        with pytest.raises(ValueError, match="folder"):
            OpenaiEngine(model, SAMPLING)
        fake.ready = False
        engine = OpenaiEngine(model, SAMPLING, tmp_path)
        stream = engine.stream(questions(10))
        for _ in range(3):
            assert next(stream) is None
        deadline = time.monotonic() + 20
        while len(fake.batches) < 3 and time.monotonic() < deadline:
            next(stream)
        stream.close()  # type: ignore[attr-defined]  # killed while it waits
        engine.close()
        assert len(fake.batches) == 3
        next(tmp_path.glob("00001*.batch")).unlink()  # killed before it noted this one
        fake.ready = True
        found = ask(model, questions(10), tmp_path)
        assert len(fake.batches) == 3
        assert {one.raw for one in found.values()} == {"", *(f"id{n}" for n in range(10) if n != 1)}
        assert found["id1"].finish == "error"
        again = ask(model, questions(10), tmp_path)  # what failed is sent again, nothing else
        assert len(again) == 10
        assert len(fake.batches) == 4
        assert fake.files[fake.batches["batch-3"]["input_file_id"]].count(b"\n") == 0
    assert not [path for path in tmp_path.iterdir() if KEY in path.read_text()]


@pytest.mark.parametrize("named", [True, False])
def test_a_batch_whose_creation_was_not_heard_of_is_not_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    """It is found by its name, or by its input file where the endpoint keeps no metadata."""
    from generate.served import batch

    monkeypatch.setattr(batch, "POLL_SECONDS", 0.2)
    fake = FakeBatches()
    fake.lost = 1

    def forgetful(request: web.Request, data: bytes) -> web.Response:
        if not named and request.path == "/v1/batches" and request.method == "POST":
            data = json.dumps({**json.loads(data), "metadata": None}).encode()
        return fake(request, data)

    with scripted(lambda *_: reply({}, 500)) as server:
        server.other = forgetful
        found = ask(served(server.url, batch=True), questions(4), tmp_path)
    assert sorted(one.finish for one in found.values()) == ["error", "stop", "stop", "stop"]
    assert len(fake.batches) == 1
