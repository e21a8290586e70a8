"""`gpt-run generate` and `gpt-run serve` as a user calls them, on a run; what they refuse, and how a server ends."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.integration.train.conftest import Warm
from tests.integration.training import Training

PROMPT = "def main(self"


def test_texts_of_prompts_and_files(trained: Training, warm: Warm, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text(f"{PROMPT}\n")
    greedy = ("--temperature", "0", "--max-tokens", "8")
    given = ("--prompt", "import os", "--prompt-file", str(tmp_path / "prompt.txt"), *greedy)
    ended = warm.command(trained, "generate", "runs/small", *given, "--json")
    assert ended.code == 0, ended.text
    found = [json.loads(line) for line in ended.text.splitlines()]
    assert [each["prompt"] for each in found] == ["import os", PROMPT]
    for each in found:
        assert each["finish_reason"] == "length"
        assert each["completion_tokens"] == 8
    texts = [each["prompt"] + each["text"] for each in found]
    shown = warm.command(trained, "generate", "runs/small", *given)
    assert shown.text == f"{texts[0]}\n---\n{texts[1]}\n"
    stop = found[1]["text"][2:4]
    cut = warm.command(trained, "generate", "runs/small", "--prompt", PROMPT, "--stop", stop, *greedy)
    assert cut.text == PROMPT + found[1]["text"].split(stop)[0] + "\n"
    drawn = ("--prompt", PROMPT, "--top-p", "0.9", "--repetition-penalty", "1.2")
    first = warm.command(trained, "generate", "runs/small@step:20", *drawn, "--seed", "7")
    assert first.text.startswith(PROMPT)
    assert first.text == warm.command(trained, "generate", "runs/small@step:20", *drawn, "--seed", "7").text


def test_what_generation_refuses(trained: Training, warm: Warm, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    for words, parts in (
        (("--prompt", "def " * 200), ("a prompt of ", "at most the context of ", "128 tokens", "shorten the prompt")),
        (("--max-tokens", "200"), ("max_tokens 200", "set max_tokens to 127 or less")),
        (("--temperature", "-1"), ("temperature: found -1",)),
        (("--top-p", "0"), ("top_p: found 0", "above 0, at most 1")),
        (("--top-p", "1.5"), ("top_p: found 1.5",)),
        (("--stop", ""), ("stop: found an empty string",)),
        (("--prompt-file", "none.txt"), ("--prompt-file none.txt: No such file",)),
        (("--prompt-file", str(tmp_path / "latin.txt")), ("latin.txt: ", "text in UTF-8")),
    ):
        warm.command(trained, "generate", "runs/small", *words).refused(*parts)
    warm.command(trained, "generate", "runs/none", "--prompt", "a").refused("runs/none has no checkpoint")


def test_a_server_of_a_run_and_its_end(trained: Training, warm: Warm) -> None:
    job = warm.start(trained, "serve", "runs/small", "--port", "0")
    job.wait_for(r"^runs/small: http://127\.0\.0\.1:\d+/v1$")
    assert "no chat: " in job.text
    found = re.search(r"127\.0\.0\.1:(\d+)", job.text)
    assert found is not None
    port = int(found[1])
    warm.command(trained, "serve", "runs/small", "--port", str(port)).refused(f"--port {port}: Address already in use")

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/v1/completions", json.dumps({"prompt": PROMPT, "max_tokens": 5, "temperature": 0}))
    answer = connection.getresponse()
    assert answer.status == 200
    text = json.loads(answer.read())["choices"][0]["text"]
    given = ("--prompt", PROMPT, "--max-tokens", "5", "--temperature", "0")
    assert warm.command(trained, "generate", "runs/small", *given).text == f"{PROMPT}{text}\n"
    connection.close()

    os.kill(job.pid, signal.SIGTERM)
    assert job.wait() == 0, job.text
    assert "Traceback" not in job.text
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_what_serving_refuses(trained: Training, warm: Warm) -> None:
    warm.command(trained, "serve", "runs/none", "--port", "0").refused("runs/none has no checkpoint")
    warm.command(trained, "serve", "runs/small", "--tokenizer", "none.json", "--port", "0").refused("none.json")
