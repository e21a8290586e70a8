"""One of two gloo ranks that shard tiny models with FSDP2; started by test_sharded.py, which reads rank 0's results."""

import gc
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from trainer.model.config import GPT2Config, LlamaConfig, ModelSettings, NeoXConfig
from trainer.model.decoder import Decoder
from trainer.model.init import initialise

SEED = 3
CONFIGS: dict[str, ModelSettings] = {
    "gpt2": GPT2Config(vocab_size=97, vocab_multiple=10, context=16, layers=2, width=20, heads=2),
    "llama": LlamaConfig(vocab_size=97, context=16, layers=2, width=24, heads=4, kv_heads=2, ffn_width=33),
    "neox": NeoXConfig(vocab_size=97, context=16, layers=2, width=32, heads=4),
}


def token_batch() -> torch.Tensor:
    return torch.arange(32).reshape(2, 16) * 3


def sharded(config: ModelSettings, mesh: DeviceMesh, policy: MixedPrecisionPolicy) -> Decoder:
    with torch.device("meta"):
        model = Decoder(config)
    for block in model.blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    model.to_empty(device="cpu")
    initialise(model, SEED)
    return model


def whole(tensors: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {
        name: tensor.full_tensor().detach().clone() if isinstance(tensor, DTensor) else tensor
        for name, tensor in tensors.items()
    }


def run(mesh: DeviceMesh) -> dict[str, Any]:
    results: dict[str, Any] = {}
    half = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for name, config in CONFIGS.items():
        model = sharded(config, mesh, MixedPrecisionPolicy())
        initial = whole(dict(model.named_parameters()))
        for _ in range(2):  # two micro-batches: gradients add up
            loss = model(token_batch(), token_batch())
            loss.backward()
        gradients = whole({key: parameter.grad for key, parameter in model.named_parameters()})
        half_loss = sharded(config, mesh, half)(token_batch(), token_batch())
        results[name] = {"initial": initial, "loss": loss.item(), "half": half_loss.item(), "gradients": gradients}
    casting = sharded(CONFIGS["llama"], mesh, MixedPrecisionPolicy(param_dtype=torch.bfloat16))
    try:
        casting(token_batch(), token_batch())
    except TypeError as error:
        results["casting"] = str(error)
    return results


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    results = run(init_device_mesh("cpu", (2,)))
    if rank == 0:
        torch.save(results, folder / "results.pt")
    # Groups that still hold a sharded model abort at interpreter exit.
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
