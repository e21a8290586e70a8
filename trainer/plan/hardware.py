"""The machines that a plan is for: GPUs of the table, how many, in how many machines, and what joins them.

Called by the command, which reads the user's words, and by the search. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from trainer.complaints import nearest
from trainer.errors import UserError
from trainer.metrics.accelerators import ACCELERATORS, Accelerator, accelerator_names

NETWORK_BYTES_PER_SECOND = 50e9
"""Between machines, per GPU: 400 Gbit/s, one InfiniBand NDR or ConnectX-7 port, as DGX H100 has for each GPU."""


@dataclass(frozen=True)
class Cluster:
    """GPUs of one kind."""

    accelerator: Accelerator
    gpus: int
    gpus_per_machine: int
    network_bytes_per_second: float = NETWORK_BYTES_PER_SECOND
    """Of each GPU, to other machines."""
    price_per_gpu_hour: float | None = None
    """What the user pays; the table's price where None."""

    @property
    def machines(self) -> int:
        """Machines that the GPUs are in."""
        return -(-self.gpus // self.gpus_per_machine)

    @property
    def price(self) -> float | None:
        """Of one GPU for an hour, US dollars unless the run says otherwise; None if nobody knows."""
        return self.price_per_gpu_hour if self.price_per_gpu_hour is not None else self.accelerator.price_per_hour

    def of(self, gpus: int) -> Cluster:
        """The same with another number of GPUs."""
        return replace(self, gpus=gpus, gpus_per_machine=min(self.gpus_per_machine, gpus))


def find_accelerator(name: str) -> Accelerator:
    """The entry called `name`, or the one whose name begins with it; UserError lists the known ones."""
    wanted = name.lower().replace("_", "-").replace(" ", "-").removeprefix("nvidia-")
    for entry in ACCELERATORS:
        if wanted in (entry.name, entry.cuda_name.lower()):
            return entry
    # `h100` is the one that most people mean: the SXM module; `a100` the only one there is.
    starts = [entry for entry in ACCELERATORS if entry.name.split("-")[0] == wanted]
    if starts:
        return starts[-1]
    raise UserError(
        f"--gpu {name}: not a known accelerator{nearest(wanted, accelerator_names())}",
        expected=f"one of {', '.join(accelerator_names())}",
        fix="name one of these; a device that is missing needs an entry in trainer/metrics/accelerators.py",
    )


def make_cluster(
    accelerator: Accelerator,
    gpus: int,
    *,
    gpus_per_machine: int | None = None,
    network_bytes_per_second: float = NETWORK_BYTES_PER_SECOND,
    price_per_gpu_hour: float | None = None,
) -> Cluster:
    """`gpus` of a kind; machines are of the kind's usual size unless told. UserError if they cannot all be full."""
    per_machine = min(gpus_per_machine or accelerator.slots, gpus)
    if gpus % per_machine:
        raise UserError(
            f"--gpus {gpus} in machines of {per_machine}",
            expected="machines with equally many GPUs",
            fix="give --gpus-per-node a divisor of --gpus",
        )
    return Cluster(accelerator, gpus, per_machine, network_bytes_per_second, price_per_gpu_hour)
