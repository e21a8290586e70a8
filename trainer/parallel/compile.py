"""Compile each block with torch.compile, after a trial that decides whether all ranks can.

Called by the worker before FSDP wraps the blocks. The trial compiles a real block, forward and backward, on every
rank: whatever is missing (a C compiler, Triton, room in the cache folder) shows up there, is logged, and all ranks run
eagerly.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist

from trainer.model.decoder import Decoder
from trainer.parallel.config import ParallelConfig

_log = logging.getLogger(__name__)

_INDUCTOR = "TORCHINDUCTOR_CACHE_DIR"


def use_compile_cache(config: ParallelConfig) -> None:
    """Point inductor and Triton at a folder that outlives the process, unless the environment already does.

    Must run before torch.compile is first used.
    """
    folder = Path(config.compile_cache) if config.compile_cache else _default_cache()
    if _nobody_chose():
        os.environ[_INDUCTOR] = str(folder / "inductor")
    os.environ.setdefault("TRITON_CACHE_DIR", str(folder / "triton"))


def import_dynamo() -> None:
    """Import what torch itself imports only when it compiles or checkpoints, without the folder that this leaves."""
    import torch._dynamo  # noqa: F401

    if _nobody_chose():
        with contextlib.suppress(KeyError, OSError):  # another process keeps something there
            Path(os.environ.pop(_INDUCTOR)).rmdir()


def _nobody_chose() -> bool:
    """Whether the environment names no folder, or the one that the import of torch._dynamo writes into it."""
    named = Path(os.environ.get(_INDUCTOR, ""))
    return named == Path() or (named.parent == Path(tempfile.gettempdir()) and named.name.startswith("torchinductor_"))


def compile_blocks(model: Decoder, trial: Decoder, *, tokens_shape: tuple[int, int], device: torch.device) -> None:
    """Compile the blocks of `model` in place if the one-block decoder `trial` compiles and runs on every rank.

    The reason why not is logged; `is_compiled` tells which it was.
    """
    failure = _try(trial, tokens_shape, device)
    failed = torch.tensor(float(failure is not None), device=device)
    dist.all_reduce(failed)
    if failed.item() > 0:
        _log.warning(
            "torch.compile failed on %d of %d ranks, so blocks run eagerly, slower: %s",
            int(failed.item()),
            dist.get_world_size(),
            failure or "see the log of the other ranks",
        )
        return
    for block in model.blocks:
        block.compile()


def is_compiled(model: Decoder) -> bool:
    """Whether its blocks run compiled: what was asked for, and found to work."""
    return all(block._compiled_call_impl is not None for block in model.blocks)


def _try(trial: Decoder, tokens_shape: tuple[int, int], device: torch.device) -> str | None:
    """Compile and run the blocks of `trial`; the first line of what went wrong, or None."""
    for block in trial.blocks:
        block.compile()
    tokens_BT = torch.zeros(tokens_shape, dtype=torch.int64, device=device)
    try:
        trial(tokens_BT, tokens_BT).backward()
    except Exception as error:  # compilers raise their own types, and any of them means the same
        text = f"{type(error).__name__}: {error}".strip()
        return text.splitlines()[0]
    return None


def _default_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "gpt-run" / "compile"
