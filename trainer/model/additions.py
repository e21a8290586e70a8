"""Parameters that training adds to a model and that the finished model does without.

Called where a checkpoint is loaded for use, and where initial weights are copied in: adapters (`trainer.model.lora`)
are merged into the matrices they adapt, projections of hidden states (`trainer.model.distillation`) left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from trainer.model.config import LoraConfig
from trainer.model.lora import is_adapter, merged

_PROJECTIONS = "projections."


def is_addition(name: str) -> bool:
    """Whether a parameter of this name is none of the plain model's."""
    return is_adapter(name) or name.startswith(_PROJECTIONS)


class PlainTensors(Mapping[str, Tensor]):
    """The parameters of the plain `Decoder` that computes what a trained model does.

    Each is made when it is asked for, out of `tensors`, which may be read one by one. `lora` is that of their run.
    """

    def __init__(self, tensors: Mapping[str, Tensor], lora: LoraConfig | None) -> None:
        self._tensors = tensors
        self._lora = lora

    def __getitem__(self, name: str) -> Tensor:
        if is_addition(name):
            raise KeyError(name)
        return self._tensors[name] if self._lora is None else merged(self._tensors, name, self._lora)

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._tensors if not is_addition(name))

    def __len__(self) -> int:
        return sum(1 for _ in self)
