"""The endpoint over real HTTP: answers, streams, refusals, limits, clients that go away, and the end."""

from __future__ import annotations

import re
import socket
import threading
import time
from typing import Any

import pytest

from tests.unit.evaluate.serve.conftest import CONTEXT, NAME, Served, events
from trainer.data.chat import load_template
from trainer.errors import UserError
from trainer.evaluate.generate import complete
from trainer.evaluate.pretrained import Pretrained
from trainer.evaluate.sampling import Sampling
from trainer.evaluate.serve.app import BODY_BYTES, bind

GREEDY = {"prompt": "with", "temperature": 0, "max_tokens": 12}
MESSAGES = [{"role": "user", "content": "the order of preference"}]


def until(holds: Any) -> None:
    """Wait for what another thread does."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_completion_is_what_generation_gives(served: Served, reference: Pretrained) -> None:
    status, answer, _ = served.ask("/v1/completions", GREEDY)
    (expected,) = complete(reference, ["with"], Sampling(max_tokens=12, temperature=0))
    assert status == 200
    assert answer["choices"] == [{"index": 0, "text": expected.text, "logprobs": None, "finish_reason": "length"}]
    tokens = expected.prompt_tokens
    usage = {"prompt_tokens": tokens, "completion_tokens": 12, "total_tokens": tokens + 12}
    assert (answer["object"], answer["model"], answer["usage"]) == ("text_completion", NAME, usage)

    assert reference.tokenizer is not None
    ids = reference.tokenizer.encode("with").ids
    assert served.ask("/v1/completions", GREEDY | {"prompt": ids})[1]["choices"] == answer["choices"]
    several = served.ask("/v1/completions", GREEDY | {"prompt": ["of", "with"], "model": NAME})[1]
    assert several["choices"][1] == answer["choices"][0] | {"index": 1}
    stop = expected.text[3:6]
    (cut,) = served.ask("/v1/completions", GREEDY | {"stop": stop})[1]["choices"]
    assert cut["finish_reason"] == "stop"
    assert cut["text"] == expected.text[: expected.text.index(stop)]
    (short,) = served.ask("/v1/completions", {"prompt": "with", "temperature": 0})[1]["choices"]
    assert expected.text == short["text"][: len(expected.text)]


def test_draws_depend_on_the_seed(served: Served) -> None:
    request = {"prompt": "with", "max_tokens": 12, "n": 2, "top_p": 0.9}
    texts = [
        [choice["text"] for choice in served.ask("/v1/completions", request | more)[1]["choices"]]
        for more in ({"seed": 5}, {"seed": 5}, {"seed": 6}, {}, {})
    ]
    assert texts[0] == texts[1]
    assert texts[0][1] == texts[2][0]
    assert len({tuple(each) for each in texts[2:]}) == 3
    assert texts[0][0] != texts[0][1]


def test_a_stream_joins_to_the_whole_answer(served: Served) -> None:
    (whole,) = served.ask("/v1/completions", GREEDY)[1]["choices"]
    answer, connection = served.stream("/v1/completions", GREEDY | {"stream_options": {"include_usage": True}})
    found = list(events(answer))
    connection.close()
    assert answer.status == 200
    assert found[-1] == "[DONE]"
    assert found[-2]["choices"] == []
    assert found[-2]["usage"]["completion_tokens"] == 12
    choices = [chunk["choices"][0] for chunk in found[:-2]]
    assert "".join(choice["text"] for choice in choices) == whole["text"]
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["length"]
    assert len({chunk["id"] for chunk in found[:-1]}) == 1


def test_a_chat_goes_through_the_template(served: Served, reference: Pretrained) -> None:
    request = {"messages": MESSAGES, "temperature": 0, "max_completion_tokens": 10}
    status, answer, _ = served.ask("/v1/chat/completions", request)
    assert status == 200
    assert reference.tokenizer is not None
    template = load_template(None, reference.tokenizer, tokenizer_folder=reference.url)
    prompt = template.render(MESSAGES, add_generation_prompt=True)
    (expected,) = complete(reference, [prompt], Sampling(max_tokens=10, temperature=0))
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": expected.text}
    assert answer["usage"]["prompt_tokens"] == expected.prompt_tokens
    stream, connection = served.stream("/v1/chat/completions", request)
    found = [chunk for chunk in events(stream) if chunk != "[DONE]"]
    connection.close()
    assert {chunk["object"] for chunk in found} == {"chat.completion.chunk"}
    assert found[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    deltas = [chunk["choices"][0]["delta"] for chunk in found]
    assert "".join(delta.get("content", "") for delta in deltas) == expected.text
    # Without a limit it goes on to the end of the context.
    usage = served.ask("/v1/chat/completions", {"messages": MESSAGES, "temperature": 0})[1]["usage"]
    assert usage["completion_tokens"] > 10
    assert usage["total_tokens"] <= CONTEXT


def test_without_a_template_there_is_no_chat(served: Served) -> None:
    served.model.template = UserError("the tokenizer has no chat template", expected="a template", fix="write one")
    status, answer, _ = served.ask("/v1/chat/completions", {"messages": MESSAGES})
    assert (status, answer["error"]["code"]) == (400, "no_chat_template")
    assert "has no chat template" in answer["error"]["message"]


def test_what_is_served_and_that_it_lives(served: Served) -> None:
    assert served.ask("/v1/models")[1]["data"][0]["id"] == NAME
    assert served.ask("/healthz")[1] == {"status": "ok", "busy": False, "waiting": 0}


@pytest.mark.parametrize(
    ("path", "body", "status", "param", "message"),
    [
        ("completions", {"temperature": -1}, 400, "temperature", "temperature: found -1"),
        ("completions", {"top_p": 0}, 400, "top_p", "above 0, at most 1"),
        ("completions", {"stop": ""}, 400, "stop", "at least one character"),
        ("completions", {"max_tokens": 0}, 400, "max_tokens", "at least 1"),
        ("completions", {"max_tokens": CONTEXT}, 400, "prompt", f"at most the context of .*, {CONTEXT} tokens"),
        ("completions", {"prompt": "with " * CONTEXT}, 400, "prompt", r"a prompt of \d+ tokens"),
        ("completions", {"prompt": [1, 300]}, 400, "prompt", "the id 300"),
        ("completions", {"prompt": [1, -1]}, 400, "prompt", "the id -1"),
        ("completions", {"prompt": "a\ud800"}, 400, "prompt", "no Unicode text: surrogates not allowed at character 1"),
        ("completions", {"repetition_penalty": 1e-42}, 400, "repetition_penalty", "found 1e-42"),
        ("completions", {"prompt": ["a"] * 9, "n": 2}, 400, None, "9 prompts with n 2; expected 16 texts at most"),
        ("completions", {"n": 17}, 400, "n", "n: found 17"),
        ("completions", {"logprobs": 5}, 400, "logprobs", "logprobs: found 5"),
        ("completions", {"temprature": 1}, 400, "temprature", "did you mean `temperature`"),
        ("completions", {"model": "gpt-4"}, 404, "model", "'gpt-4' is not served here; expected 'small'"),
        ("chat/completions", {}, 400, "messages", "messages: missing"),
        ("chat/completions", {"messages": [{"role": "user"}]}, 400, "messages", "role and content"),
        ("chat/completions", {"messages": MESSAGES, "tools": [{}]}, 400, "tools", "tools: found"),
        ("chat/completions", {"messages": [{"role": "user", "content": "\udfff"}]}, 400, "messages", "no Unicode text"),
        ("chat/completions", {"messages": MESSAGES, "stop": ["a"] * 16}, 400, "stop", "at most 15 in a chat"),
    ],
)
def test_refusals_say_what_was_found(
    path: str, body: dict[str, Any], status: int, param: str | None, message: str, served: Served
) -> None:
    found, answer, _ = served.ask(f"/v1/{path}", body)
    assert (found, answer["error"]["param"], answer["error"]["type"]) == (status, param, "invalid_request_error")
    assert re.search(message, answer["error"]["message"])


def test_bodies_that_are_none_are_refused_in_the_same_form(served: Served) -> None:
    for body in (b"{", b"[" * 100_000):
        assert served.ask("/v1/completions", raw=body)[1]["error"]["message"].startswith("the body is no JSON")
    assert "expected a JSON object" in served.ask("/v1/completions", [1])[1]["error"]["message"]
    assert served.ask("/v1/completions", raw=b'"' + b"a" * BODY_BYTES + b'"')[0] == 413
    assert served.ask("/v1/nothing")[:2] == (
        404,
        {
            "error": {
                "message": "GET /v1/nothing: Not Found",
                "type": "invalid_request_error",
                "param": None,
                "code": None,
            }
        },
    )


def test_others_are_answered_while_a_text_is_made_and_too_many_are_refused(served: Served) -> None:
    served.model.gate = threading.Semaphore(1)
    running, connection = served.stream("/v1/completions", GREEDY)
    stream = events(running)
    next(stream)
    assert served.ask("/healthz")[1] == {"status": "ok", "busy": True, "waiting": 0}
    answers: list[Any] = []
    waiter = threading.Thread(target=lambda: answers.append(served.ask("/v1/completions", GREEDY)))
    waiter.start()
    until(lambda: served.ask("/healthz")[1]["waiting"] == 1)
    status, refused, headers = served.ask("/v1/completions", GREEDY)
    assert (status, refused["error"]["type"], headers["Retry-After"]) == (429, "rate_limit_error", "1")
    served.model.gate.release(1000)
    waiter.join()
    assert list(stream)[-1] == "[DONE]"
    connection.close()
    assert answers[0][0] == 200


@pytest.mark.parametrize("streaming", [True, False])
def test_a_client_that_goes_away_ends_its_text(served: Served, streaming: bool) -> None:
    served.model.gate = threading.Semaphore(1)
    connection = served.connect()
    body = b'{"prompt": "with", "temperature": 0, "max_tokens": 200, "stream": %s}' % str(streaming).lower().encode()
    connection.request("POST", "/v1/completions", body)
    if streaming:
        next(events(connection.getresponse()))
    until(lambda: served.model.made == 1)
    assert connection.sock is not None
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
    while served.server.turns.busy:
        served.model.gate.release()
        time.sleep(0.01)
    assert served.model.made < 100
    served.model.gate.release(100)
    assert served.ask("/v1/completions", GREEDY)[0] == 200


def test_a_waiting_client_that_goes_away_frees_its_place(served: Served) -> None:
    served.model.gate = threading.Semaphore(1)
    running, first = served.stream("/v1/completions", GREEDY)
    next(events(running))
    second = served.connect()
    second.request("POST", "/v1/completions", b'{"prompt": "with"}')
    until(lambda: served.ask("/healthz")[1]["waiting"] == 1)
    second.close()
    until(lambda: served.ask("/healthz")[1]["waiting"] == 0)
    first.close()


def test_a_server_that_stops_says_so_in_the_stream(served: Served) -> None:
    served.model.gate = threading.Semaphore(1)
    answer, connection = served.stream("/v1/completions", GREEDY)
    stream = events(answer)
    next(stream)
    served.server.turns.stop()
    served.model.gate.release(1000)
    *_, last = stream
    connection.close()
    assert last["error"]["code"] == "stopping"
    status, refused, headers = served.ask("/v1/completions", GREEDY)
    assert (status, refused["error"]["type"], headers["Retry-After"]) == (503, "server_error", "1")


def test_a_port_that_is_taken_is_named() -> None:
    with bind("127.0.0.1", 0) as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(UserError, match=rf"--port {port}: Address already in use"):
            bind("127.0.0.1", port)
    # An address for documentation (RFC 5737), which no machine has.
    with pytest.raises(UserError, match=r"--host 192\.0\.2\.1"):
        bind("192.0.2.1", 8000)
