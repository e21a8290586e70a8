"""The sides of a comparison of training: the same GPT-2, batch and optimizer in the hands of each library.

    PYTHON -m benchmarks.training_sides SIDE SIZE FOLDER     a rank of a `benchmarks.hosts` side

Used by throughput_cpu.py, and by the comparisons of compare/. FOLDER has tokens.bin. All sides train in fp32 with the
same sizes, attention kernel, fused AdamW and clipping, on batches from the same file; at a world of several ranks each
has its share of the batch, and each library uses what its documentation recommends for a model that fits on one. What a
side needs is imported when it is made: a peer's environment has only numpy, torch and the peer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from benchmarks.hosts import Answer, Job, peak_memory_bytes, serve
from benchmarks.plain_gpt import PlainGPT, RandomWindows, adamw

OURS = "gpt-run"
LR = 1e-3
CLIP_NORM = 1.0


@dataclass(frozen=True)
class Size:
    """A GPT-2 and its global batch; head width 32 or 64."""

    vocab_size: int
    layers: int
    width: int
    heads: int
    length: int
    sequences: int
    steps_per_round: int

    @property
    def tokens_per_step(self) -> int:
        return self.sequences * self.length


SIZES = {
    "1m": Size(vocab_size=8192, layers=4, width=96, heads=3, length=256, sequences=8, steps_per_round=40),
    "4m": Size(vocab_size=8192, layers=6, width=192, heads=6, length=256, sequences=8, steps_per_round=12),
    "10m": Size(vocab_size=16384, layers=8, width=256, heads=4, length=512, sequences=8, steps_per_round=6),
    "34m": Size(vocab_size=16384, layers=8, width=512, heads=8, length=256, sequences=2, steps_per_round=4),
    "50m": Size(vocab_size=50257, layers=8, width=512, heads=8, length=512, sequences=8, steps_per_round=2),
}


def main() -> None:
    name, size, folder = sys.argv[1], SIZES[sys.argv[2]], Path(sys.argv[3])

    def prepare() -> Callable[[Job], Answer]:
        side = SIDES[name](size, folder)
        return lambda job: {"losses": side.run(job["steps"]), "peak_memory_bytes": peak_memory_bytes()}

    serve(prepare)


def parameters(size: Size) -> int:
    """Parameters of the plain model, which all sides share."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in plain_model(size).parameters())


def plain_model(size: Size) -> PlainGPT:
    """The plain GPT-2 of a size."""
    return PlainGPT(
        vocab_size=size.vocab_size, context=size.length, layers=size.layers, width=size.width, heads=size.heads
    )


def run_file(size: Size, folder: Path) -> dict[str, Any]:
    """The same as a run of ours."""
    return {
        "name": "compared",
        "model": {
            "family": "gpt2",
            "vocab_size": size.vocab_size,
            "context": size.length,
            "layers": size.layers,
            "width": size.width,
            "heads": size.heads,
        },
        "sequence_length": size.length,
        "batch": {"sequences": size.sequences, "micro_sequences": size.sequences},
        "data": {"train": str(folder / "tokens.bin")},
        "optimizer": {"type": "adamw", "lr": LR, "clip_norm": CLIP_NORM},
        # The model fits on every rank.
        "parallel": {"shard": "none"},
        "checkpoint": {"store": str(folder / "runs")},
    }


class TrainingLoop:
    """A peer's side: model, optimizer and this rank's share of the batches; subclasses say what is done with them."""

    model: nn.Module
    optimizer: torch.optim.Optimizer

    def __init__(self, size: Size, folder: Path) -> None:
        self.size, self.folder = size, folder
        rank, self.world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        torch.manual_seed(1)
        self.batches = RandomWindows(
            folder / "tokens.bin", sequences=size.sequences // self.world, length=size.length, seed=1 + rank
        )
        self.build()

    def build(self) -> None:
        """Make the model and the optimizer."""
        raise NotImplementedError

    def step(self) -> torch.Tensor:
        """One optimizer step; its loss."""
        raise NotImplementedError

    def run(self, steps: int) -> list[float]:
        """Take optimizer steps; returns their losses on this rank."""
        return [self.step().item() for _ in range(steps)]


class PlainLoop(TrainingLoop):
    """plain_gpt.py in the shortest loop there is, under DistributedDataParallel where there are several ranks."""

    def build(self) -> None:
        self.model = plain_model(self.size)
        self.optimizer = adamw(self.model, LR)
        if self.world > 1:
            dist.init_process_group("gloo")
            self.model = nn.parallel.DistributedDataParallel(self.model)

    def step(self) -> torch.Tensor:
        inputs_BT, targets_BT = self.batches.next()
        loss: torch.Tensor = self.model(inputs_BT, targets_BT)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss


class AccelerateLoop(TrainingLoop):
    """Transformers' GPT-2 under Accelerate, as its documentation writes a loop."""

    def build(self) -> None:
        from accelerate import Accelerator
        from transformers import GPT2Config, GPT2LMHeadModel

        config = GPT2Config(
            vocab_size=self.size.vocab_size,
            n_positions=self.size.length,
            n_embd=self.size.width,
            n_layer=self.size.layers,
            n_head=self.size.heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            use_cache=False,
            attn_implementation="sdpa",  # type: ignore[call-arg]  # a keyword of its base class
        )
        model = GPT2LMHeadModel(config)
        model.train()
        self.accelerator = Accelerator(cpu=True, mixed_precision="no")
        assert self.accelerator.num_processes == self.world, "ranks do not know each other"
        self.model, self.optimizer = self.accelerator.prepare(model, adamw(model, LR))

    def step(self) -> torch.Tensor:
        inputs_BT, _ = self.batches.next()
        # Transformers shifts labels by itself.
        loss: torch.Tensor = self.model(input_ids=inputs_BT, labels=inputs_BT).loss
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss


class FabricLoop(TrainingLoop):
    """The plain model under Lightning Fabric."""

    def build(self) -> None:
        from lightning.fabric import Fabric  # type: ignore[import-not-found]  # in an environment of its own

        self.fabric = Fabric(accelerator="cpu", devices=self.world, strategy="ddp" if self.world > 1 else "auto")
        self.fabric.launch()
        assert self.fabric.world_size == self.world, "ranks do not know each other"
        model = plain_model(self.size)
        self.model, self.optimizer = self.fabric.setup(model, adamw(model, LR))

    def step(self) -> torch.Tensor:
        inputs_BT, targets_BT = self.batches.next()
        loss: torch.Tensor = self.model(inputs_BT, targets_BT)
        self.fabric.backward(loss)
        self.fabric.clip_gradients(self.model, self.optimizer, max_norm=CLIP_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss


class DeepSpeedLoop(TrainingLoop):
    """The plain model under DeepSpeed, ZeRO stage 0: it fits on every rank."""

    def build(self) -> None:
        # It compiles its collectives at first use; what a killed compiler leaves in the user's cache blocks the next.
        os.environ["TORCH_EXTENSIONS_DIR"] = str(self.folder / "extensions")
        # Its environment has ninja, which is looked for on the path.
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        import deepspeed  # type: ignore[import-not-found]  # in an environment of its own

        if self.world == 1:
            # It always wants a process group.
            os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
            os.environ |= {"MASTER_PORT": "0"}
        deepspeed.init_distributed(dist_backend="gloo")
        model = plain_model(self.size)
        self.engine, *_ = deepspeed.initialize(
            model=model,
            optimizer=adamw(model, LR),
            config={
                "train_micro_batch_size_per_gpu": self.size.sequences // self.world,
                "gradient_accumulation_steps": 1,
                "gradient_clipping": CLIP_NORM,
                "zero_optimization": {"stage": 0},
                "zero_allow_untested_optimizer": True,
            },
        )
        self.model, self.optimizer = self.engine, self.engine.optimizer

    def step(self) -> torch.Tensor:
        inputs_BT, targets_BT = self.batches.next()
        loss: torch.Tensor = self.engine(inputs_BT, targets_BT)
        self.engine.backward(loss)
        self.engine.step()
        return loss


def ours(size: Size, folder: Path) -> Any:
    """The product; a function, since its imports are ours alone."""
    from benchmarks.product import Product

    return Product(run_file(size, folder))


SIDES: dict[str, Callable[[Size, Path], Any]] = {
    OURS: ours,
    "Accelerate": AccelerateLoop,
    "Fabric": FabricLoop,
    "DeepSpeed": DeepSpeedLoop,
    "plain loop": PlainLoop,
}


if __name__ == "__main__":
    main()
