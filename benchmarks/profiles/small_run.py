"""A run on one core, set up as the product does, for the profiles of what it does then."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.common import write_random_tokens
from benchmarks.product import Product
from benchmarks.training_sides import SIZES, run_file


@contextlib.contextmanager
def small_run(size: str) -> Iterator[Product]:
    """A run of a size of `SIZES` on random tokens; what it prints goes to standard error."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        write_random_tokens(Path(folder, "tokens.bin"), vocab_size=SIZES[size].vocab_size, tokens=500_000)
        product = Product(run_file(SIZES[size], Path(folder)))
        yield product
        product.close()
