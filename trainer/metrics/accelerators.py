"""Known accelerators: peak arithmetic, memory, links, power and price, each with its source.

The one table of such figures: the denominator of MFU (`trainer.metrics.hardware`) and the hardware of `gpt-run plan`.
Imports nothing, so that the planner needs no torch. What is not in the table has no MFU and no plan; a guessed figure
would be worse than none.
"""

from __future__ import annotations

from dataclasses import dataclass

GB = 10**9
TERA = 10**12


@dataclass(frozen=True)
class Accelerator:
    """One GPU, or one CPU server. Capacities are the vendor's decimal ones; drivers show a few per cent more."""

    name: str
    """As in `--gpu`."""
    cuda_name: str
    """A part of the name that CUDA reports, which no earlier entry has."""
    dense_flops_per_second: float
    """bf16 (fp16 before Ampere), without sparsity."""
    memory_bytes: float
    memory_bytes_per_second: float
    link_bytes_per_second: float
    """To the other GPUs of its machine, in one direction."""
    power_watts: float
    """Board power."""
    price_per_hour: float | None
    """US dollars on demand, the middle of what was asked in 2026; None where nobody was found who rents it out."""
    matmul_ratio: float
    """Share of the peak that large matrix products reach; see docs/decisions/plan.md for where each comes from."""
    hardware_source: str
    price_source: str
    slots: int = 8
    """In a machine of the usual kind."""


_PRICES = "mercatus-ai.com, cloud GPU pricing, May 2026"
_H100_SHEET = "NVIDIA H100 data sheet; its bf16 figures are with sparsity, halved here"
_NO_PRICE = "none found: give --price"

ACCELERATORS: tuple[Accelerator, ...] = (
    Accelerator(
        "b200",
        "B200",
        *(2250 * TERA, 180 * GB, 7.7 * TERA, 900 * GB, 1000, None, 0.65),
        "NVIDIA DGX B200 data sheet, an eighth of the system",
        _NO_PRICE,
    ),
    Accelerator(
        "gh200",
        "GH200",
        *(989 * TERA, 96 * GB, 4.0 * TERA, 450 * GB, 900, None, 0.70),
        "NVIDIA GH200 data sheet; power of GPU and CPU together",
        _NO_PRICE,
        1,
    ),
    Accelerator(
        "h200-nvl",
        "H200 NVL",
        *(835 * TERA, 141 * GB, 4.8 * TERA, 450 * GB, 600, None, 0.65),
        "NVIDIA H200 data sheet; its bf16 figure is with sparsity, halved here; NVLink bridge of two or four",
        _NO_PRICE,
    ),
    Accelerator(
        "h200-sxm",
        "H200",
        *(989 * TERA, 141 * GB, 4.8 * TERA, 450 * GB, 700, 4.0, 0.70),
        "NVIDIA H200 data sheet",
        f"{_PRICES}: 2.50 to 7.00, specialised clouds 3.50 to 4.50",
    ),
    Accelerator(
        "h100-pcie",
        "H100 PCIe",
        *(756 * TERA, 80 * GB, 2.0 * TERA, 64 * GB, 350, None, 0.65),
        _H100_SHEET,
        _NO_PRICE,
    ),
    Accelerator(
        "h100-nvl",
        "H100 NVL",
        *(835 * TERA, 94 * GB, 3.9 * TERA, 300 * GB, 400, None, 0.65),
        _H100_SHEET,
        _NO_PRICE,
    ),
    Accelerator(
        "h100-sxm",
        "H100",
        *(989 * TERA, 80 * GB, 3.35 * TERA, 450 * GB, 700, 3.0, 0.70),
        _H100_SHEET,
        f"{_PRICES}: 1.99 to 5.00, specialised clouds 2.50 to 3.50",
    ),
    Accelerator(
        "h800",
        "H800",
        *(989 * TERA, 80 * GB, 3.35 * TERA, 200 * GB, 700, None, 0.70),
        "as H100 SXM with NVLink cut to 400 GB/s: DeepSeek-V3 report, arXiv:2412.19437",
        _NO_PRICE,
    ),
    Accelerator(
        "h20",
        "H20",
        *(148 * TERA, 96 * GB, 4.0 * TERA, 450 * GB, 400, None, 0.70),
        "willitrunai.com, H20 96 GB: 148 TFLOP/s dense, 4.0 TB/s, NVLink 900 GB/s both ways, 400 W",
        "not rented out by Western clouds (willitrunai.com): give --price",
    ),
    Accelerator(
        "a100-80gb",
        "A100",
        *(312 * TERA, 80 * GB, 2.0 * TERA, 300 * GB, 400, 1.5, 0.80),
        "NVIDIA A100 data sheet",
        f"{_PRICES}: 0.80 to 3.00, specialised clouds 1.10 to 1.50",
    ),
    Accelerator(
        "a800",
        "A800",
        *(312 * TERA, 80 * GB, 2.0 * TERA, 200 * GB, 400, None, 0.80),
        "as A100 with NVLink cut to 400 GB/s (NVIDIA A800 data sheet)",
        _NO_PRICE,
    ),
    Accelerator(
        "l40s",
        "L40S",
        *(362 * TERA, 48 * GB, 864 * GB, 32 * GB, 350, 0.87, 0.65),
        "NVIDIA L40S data sheet; PCIe 4.0 x16",
        "aihardwareindex.com, cost per token analysis, December 2025",
    ),
    Accelerator(
        "l4",
        "L4",
        *(121 * TERA, 24 * GB, 300 * GB, 16 * GB, 72, None, 0.55),
        "NVIDIA L4 data sheet; PCIe 4.0 x8 link counted",
        _NO_PRICE,
    ),
    Accelerator(
        "a10g",
        "A10G",
        *(70 * TERA, 24 * GB, 600 * GB, 32 * GB, 300, None, 0.65),
        "NVIDIA A10G data sheet as published for EC2 G5",
        _NO_PRICE,
    ),
    Accelerator(
        "a10",
        "A10",
        *(125 * TERA, 24 * GB, 600 * GB, 32 * GB, 150, None, 0.65),
        "NVIDIA A10 data sheet",
        _NO_PRICE,
    ),
    Accelerator(
        "v100-32gb",
        "V100",
        *(125 * TERA, 32 * GB, 900 * GB, 150 * GB, 300, None, 0.70),
        "NVIDIA V100 data sheet; fp16, it has no bf16",
        _NO_PRICE,
    ),
    # A server without a GPU: 24 cores of 1,024 bf16 operations per cycle (AMX) at 2.0 GHz, eight channels of DDR5-4800.
    Accelerator(
        "cpu-24-core",
        "Xeon 24 cores",
        *(49 * TERA, 128 * GB, 307 * GB, 16 * GB, 350, None, 0.25),
        "24 cores x 1,024 bf16 operations a cycle (Wikipedia, Advanced Matrix Extensions) x 2.0 GHz; 8 x DDR5-4800",
        _NO_PRICE,
        1,
    ),
)


def accelerator_names() -> list[str]:
    """Names that `--gpu` knows, in the order of the table."""
    return [accelerator.name for accelerator in ACCELERATORS]


def by_cuda_name(name: str) -> Accelerator | None:
    """The entry of the device that CUDA calls `name`, or None if it is not known."""
    words = f" {name.replace('-', ' ')} "
    return next((entry for entry in ACCELERATORS if f" {entry.cuda_name} " in words), None)
