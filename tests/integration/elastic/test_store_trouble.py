"""Machines that stop while they talk to the store, and one that wakes up when the run is over."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.integration.elastic.conftest import MakeNodes
from tests.integration.proxy import Proxy
from tests.integration.servers import Server, s3_environment
from tests.integration.training import Process, wait_until
from trainer.checkpoint.references import resolve_url
from trainer.errors import UserError


@dataclass(frozen=True)
class Store:
    """An S3 bucket, and a proxy before it."""

    url: str
    environment: dict[str, str]
    proxy: Proxy

    @property
    def proxied(self) -> dict[str, str]:
        """What a machine's environment is that finds the store through the proxy."""
        return self.environment | s3_environment(self.proxy.port)

    def puts(self, path: str) -> str:
        """The beginning of the request that writes an object of the run."""
        return f"PUT /{self.url.removeprefix('s3://')}/small/{path}"


@pytest.fixture
def store(
    start_server: Callable[[str], Server], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    server = start_server("s3")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    proxy = Proxy(server.port)
    yield Store(f"{server.url}/{request.node.name}", server.environment, proxy)
    proxy.release()
    proxy.close()


@pytest.mark.slow
def test_sigterm_while_a_checkpoint_is_loaded_ends_at_once(make_nodes: MakeNodes, store: Store) -> None:
    training = make_nodes("1", checkpoint={"store": store.url}).training
    first = training.train("steps=4", environment=store.environment)
    assert first.wait() == 0, first.text

    store.proxy.hold(".distcp")
    temporary = training.folder / "tmp"
    temporary.mkdir()
    second = training.train("steps=8", nproc=2, environment=store.proxied | {"TMPDIR": str(temporary)})
    wait_until(lambda: store.proxy.held > 0)
    second.popen.terminate()
    assert second.wait() == 75, second.text
    # Checkpoints are large: what was fetched of one does not stay.
    assert list(temporary.iterdir()) == []

    # It has claimed no attempt, and the next one finds all as it was.
    third = training.train("steps=8", environment=store.environment)
    assert third.wait() == 0, third.text
    assert "attempt a0002" in third.text
    assert f"going on from {store.url}/small/checkpoints/step-00000004-a0001" in third.text


@pytest.mark.slow
def test_sigterm_while_a_checkpoint_is_saved_saves_the_last_step_too(make_nodes: MakeNodes, store: Store) -> None:
    checkpoint = {"store": store.url, "every_steps": 5}
    training = make_nodes("1", steps=100_000, checkpoint=checkpoint).training
    store.proxy.hold(store.puts("checkpoints/step-00000005-a0001/COMMITTED.json"))
    process = training.train(nproc=2, environment=store.proxied)
    wait_until(lambda: store.proxy.held > 0)
    process.popen.terminate()
    process.wait_for("^stopping")
    store.proxy.release()
    assert process.wait() == 75, process.text
    newest = resolve_url(f"{store.url}/small")
    assert newest.step == last_step(process) > 5
    assert "saved step-00000005-a0001" in process.text


@pytest.mark.slow
def test_a_machine_that_wakes_up_after_the_end_commits_in_vain(make_nodes: MakeNodes, store: Store) -> None:
    nodes = make_nodes("1:2", steps=60, checkpoint={"store": store.url, "every_steps": 10})
    store.proxy.hold(store.puts("checkpoints/step-00000020-a0001/COMMITTED.json"))
    zombie = nodes.start(environment=store.proxied)
    wait_until(lambda: store.proxy.held > 0)
    frozen = zombie.freeze()
    other = nodes.start(environment=store.environment)
    assert other.wait() == 0, other.text
    assert f"going on from {store.url}/small/checkpoints/step-00000010-a0001" in other.text

    # The files of its step 20 were removed as those of a save that broke off: its marker does not stay without them.
    store.proxy.release()
    for member in frozen:
        member.resume()
    assert zombie.wait() == 1, zombie.text
    assert "belongs to attempt a0002" in zombie.text
    with pytest.raises(UserError, match="no checkpoint 'step-00000020-a0001'"):
        resolve_url(f"{store.url}/small/checkpoints/step-00000020-a0001")
    newest = resolve_url(f"{store.url}/small")
    assert (newest.step, newest.attempt) == (60, 2)
    twenty = resolve_url(f"{store.url}/small", "step:20")
    assert (twenty.step, twenty.attempt) == (20, 2)


def last_step(process: Process) -> int:
    """The last step that a run has printed."""
    return int(re.findall(r"^step +(\d+)/", process.text, re.MULTILINE)[-1])
