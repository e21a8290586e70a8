"""Initial values of parameters, the same for every world size, sharding and device.

The trainer calls `initialise` after sharding and `to_empty`; resuming from a Hugging Face folder calls `copy_full_`
for each tensor. Each parameter is drawn whole on the CPU from a generator of its own and only the local shard is
kept, so no process ever holds more than one whole parameter, and neither order nor ranks change a value.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from trainer.model.config import ModelSettings
from trainer.model.decoder import Decoder
from trainer.model.lora import DOWN, UP

# The matrices that write into the residual stream.
_RESIDUAL_PROJECTIONS = ("attention.out.weight", "mlp.down.weight")


def initialise(model: Decoder, seed: int) -> None:
    """Fill every parameter in place: norms 1, biases 0, the rest drawn by `config.init` from (seed, parameter name).
    Adapters change nothing at first: the matrix after the product is 0 (arXiv:2106.09685, section 4.1).

    Works on plain parameters and on DTensors, on any device but meta. Names are those of `model.named_parameters()`;
    the prefix that torch.compile adds to compiled blocks does not count.
    """
    for compiled_name, parameter in model.named_parameters():
        name = compiled_name.replace("_orig_mod.", "")
        copy_full_(parameter, _initial_value(name, parameter.shape, model.config, seed))


@torch.no_grad()
def copy_full_(parameter: nn.Parameter, full: Tensor) -> None:
    """Copy the whole tensor `full`, or of a sharded parameter this rank's part of it, into `parameter`.

    No communication: every rank has to pass the same values. Casts to the parameter's type and device.
    """
    data = parameter.data
    if not isinstance(data, DTensor):
        data.copy_(full)
        return
    shards = distribute_tensor(full, data.device_mesh, data.placements, src_data_rank=None)
    # Local to local: an offloaded parameter lives on the CPU while its mesh is one of GPUs.
    data.to_local().copy_(shards.to_local())


def _initial_value(name: str, shape: torch.Size, config: ModelSettings, seed: int) -> Tensor:
    if name.endswith(("bias", UP)):
        return torch.zeros(shape)
    if len(shape) == 1:
        return torch.ones(shape)
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    if name.endswith(DOWN):
        # As the authors' code has it: Kaiming's uniform with a slope of sqrt(5).
        return torch.empty(shape).uniform_(-1.0, 1.0, generator=generator) / math.sqrt(shape[1])
    value = torch.empty(shape).normal_(0.0, _standard_deviation(name, config), generator=generator)
    if shape[0] == config.padded_vocab_size and name in ("embed.weight", "head.weight"):
        value[config.vocab_size :] = 0.0
    return value


def _standard_deviation(name: str, config: ModelSettings) -> float:
    """The spread of a matrix's values.

    `scaled_residual`: GPT-2 (Radford 2019, section 2.3), residual projections over sqrt(2 * layers).
    `small_wang`: small-init sqrt(2 / (5 * width)) (Nguyen and Salazar 2019), and 2 / (layers * sqrt(width)) for
    residual projections (Wang, mesh-transformer-jax), as in GPT-NeoX (Black 2022).
    """
    residual = name.endswith(_RESIDUAL_PROJECTIONS)
    if config.init == "small_wang":
        return 2 / (config.layers * math.sqrt(config.width)) if residual else math.sqrt(2 / (5 * config.width))
    if config.init == "scaled_residual" and residual:
        return config.init_std / math.sqrt(2 * config.layers)
    return config.init_std
