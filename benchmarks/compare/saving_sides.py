"""The sides of the comparison of saves: each trains as in `training_sides`, and saves and loads its whole state.

    PYTHON -m benchmarks.compare.saving_sides SIDE SIZE FOLDER     a `benchmarks.hosts` process

Jobs are {"do": ...}: "steps" (as many as "steps" says), "save" (until training may go on), "wait" (until what is left
of it is done), "hash" (all files of the save, where "restore" does not by itself), "restore", "forget" (removes the
save), "sum" (of all parameters). A side keeps one save in FOLDER/SIDE.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load
from torch.distributed.checkpoint.state_dict_saver import async_save as dcp_async_save
from torch.distributed.checkpoint.state_dict_saver import save as dcp_save

from benchmarks.hosts import Answer, Job, serve
from benchmarks.training_sides import OURS, SIZES, AccelerateLoop, FabricLoop, PlainLoop, Size, run_file


class Saving(Protocol):
    """One side."""

    def run(self, steps: int) -> list[float]: ...
    def save(self, folder: Path, /) -> None:
        """Returns when training may go on."""

    def wait(self) -> None:
        """Returns when the save is complete."""

    def hash(self, folder: Path, /) -> None:
        """Take the hashes of the save's files, where `restore` takes none."""

    def restore(self, folder: Path, /) -> None:
        """Model and optimizer are as they were when `save` was called."""

    def forget(self, folder: Path, /) -> None:
        """Remove the save."""

    def parameters(self) -> list[torch.Tensor]: ...


def main() -> None:
    name, size, folder = sys.argv[1], SIZES[sys.argv[2]], Path(sys.argv[3]) / sys.argv[1].replace(" ", "-")
    serve(lambda: worker(SIDES[name](size, folder.parent), folder))


def worker(side: Saving, folder: Path) -> Callable[[Job], Answer]:
    """What does the jobs of one side; each answer has a sum by which two states of the model can be told apart."""

    def work(job: Job) -> Answer:
        match job["do"]:
            case "steps":
                side.run(job["steps"])
            case "save":
                side.save(folder)
            case "wait":
                side.wait()
            case "hash":
                side.hash(folder)
            case "restore":
                side.restore(folder)
            case "forget":
                side.forget(folder)
            case "sum":
                return {"sum": sum(float(tensor.detach().double().abs().sum()) for tensor in side.parameters())}
        return {}

    return work


# As many as `checkpoint.streams` is by default.
_HASH_THREADS = 4


class PeerSaving:
    """What the peers' sides share: a save is a folder, complete when `save` returns, and nothing compares hashes."""

    model: nn.Module

    def wait(self) -> None:
        """Nothing is left to do."""

    def hash(self, folder: Path) -> None:
        files = [path for path in folder.rglob("*") if path.is_file()]
        with ThreadPoolExecutor(_HASH_THREADS) as pool:
            list(pool.map(sha256_of, files))

    def forget(self, folder: Path) -> None:
        shutil.rmtree(folder)

    def parameters(self) -> list[torch.Tensor]:
        return list(self.model.parameters())


def sha256_of(path: Path) -> str:
    """Hex digest of a file; a peer's environment has not ours."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class AccelerateSaving(PeerSaving, AccelerateLoop):
    """`save_state` and `load_state`, with its default of safetensors for the model."""

    def save(self, folder: Path) -> None:
        self.accelerator.save_state(str(folder))

    def restore(self, folder: Path) -> None:
        self.accelerator.load_state(str(folder))


class FabricSaving(PeerSaving, FabricLoop):
    """`save` and `load` of model and optimizer."""

    def save(self, folder: Path) -> None:
        self.fabric.save(folder / "state.ckpt", self._state())

    def restore(self, folder: Path) -> None:
        self.fabric.load(folder / "state.ckpt", self._state())

    def _state(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer}


class DcpSaving(PeerSaving, PlainLoop):
    """torch.distributed.checkpoint as its tutorial has it: state dicts by `get_state_dict`, `save` and `load`."""

    def save(self, folder: Path) -> None:
        dcp_save(self._state(), checkpoint_id=folder)

    def restore(self, folder: Path) -> None:
        state = self._state()
        dcp_load(state, checkpoint_id=folder)
        set_state_dict(self.model, self.optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])

    def _state(self) -> dict[str, Any]:
        model, optimizer = get_state_dict(self.model, self.optimizer)
        return {"model": model, "optimizer": optimizer}


class DcpAsyncSaving(DcpSaving):
    """The same with `async_save`, which needs a process group."""

    def __init__(self, size: Size, folder: Path) -> None:
        super().__init__(size, folder)
        store = torch.distributed.HashStore()  # type: ignore[attr-defined]  # exported where torch was built with it
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)

    def save(self, folder: Path) -> None:
        saving = dcp_async_save(self._state(), checkpoint_id=folder)
        assert isinstance(saving, Future), "two futures come with a stager alone"
        self._saving = saving

    def wait(self) -> None:
        self._saving.result()


def ours(size: Size, folder: Path) -> Saving:
    """The product with its defaults; a function, since its imports are ours alone."""
    from benchmarks.compare.saving_ours import ProductSaving

    return ProductSaving(run_file(size, folder))


SIDES: dict[str, Callable[[Size, Path], Saving]] = {
    OURS: ours,
    "Accelerate": AccelerateSaving,
    "Fabric": FabricSaving,
    "DCP": DcpSaving,
    "DCP async": DcpAsyncSaving,
}


if __name__ == "__main__":
    main()
