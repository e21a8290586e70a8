"""A trained decoder as an ONNX graph, compared with the decoder itself by onnxruntime before anybody gets it.

Input `input_ids` [batch, sequence] int64, output `logits` [batch, sequence, vocab_size] in fp32, both sizes free, the
sequence up to the model's context. Called by `trainer.evaluate.export`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from trainer.extras import needs
from trainer.model.decoder import Decoder

MODEL_FILE = "model.onnx"
# Protobuf ends at 2 GiB; weights beyond this go into a file beside the graph, which names it.
EXTERNAL_BYTES = 1_500_000_000
# Largest difference of a logit that sums in another order may come to, see docs/decisions/export.md.
BAR = 1e-3
_OPSET = 20


def require_onnx() -> None:
    """UserError where the extra is not installed. For a caller that has long work to do before the export."""
    with needs("onnx", "export to ONNX"):
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401


def export_onnx(model: Decoder, folder: Path, *, external_bytes: int = EXTERNAL_BYTES) -> float:
    """Write the decoder, which is on the CPU in fp32, into `folder`; the largest difference of a logit.

    More than `external_bytes` of weights go into model.onnx.data. Raises RuntimeError for a difference above BAR, and
    the graph must not be handed out.
    """
    require_onnx()
    model.eval()
    program = _trace(model)
    for node in program.model.graph:
        # Stack traces with the paths of this machine.
        node.metadata_props.clear()
    weight_bytes = sum(parameter.nbytes for parameter in model.parameters())
    program.save(folder / MODEL_FILE, external_data=weight_bytes > external_bytes)
    del program
    difference = _largest_difference(model, folder / MODEL_FILE)
    # A graph that gives NaN is not below any bar.
    if not difference <= BAR:
        raise RuntimeError(f"the logits of the ONNX graph differ from the decoder's by {difference:.1e}, above {BAR:g}")
    return difference


def _trace(model: Decoder) -> Any:
    context = model.config.context
    example_BT = torch.zeros(2, min(8, context), dtype=torch.int64)
    with torch.no_grad(), _quiet():
        # The table of rotations is made by the first call; tracing has to find it there as a constant.
        model(example_BT)
        sizes = {0: torch.export.Dim("batch")}
        # A length that can only be one number is no dimension to the tracer.
        sizes |= {1: torch.export.Dim("sequence", max=context)} if context > 1 else {}
        return torch.onnx.export(
            model,
            (example_BT,),
            input_names=["input_ids"],
            output_names=["logits"],
            dynamic_shapes={"tokens_BT": sizes},
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )


@torch.no_grad()
def _largest_difference(model: Decoder, file: Path) -> float:
    """Over random tokens: one alone, a ragged batch, and the whole context."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    context, vocabulary = model.config.context, model.config.vocab_size
    generator = torch.Generator().manual_seed(0)
    largest = torch.zeros(())
    for shape in ((1, 1), (3, max(1, context // 3)), (1, context)):
        tokens_BT = torch.randint(0, vocabulary, shape, generator=generator)
        (theirs,) = session.run(None, {"input_ids": tokens_BT.numpy()})
        # torch.maximum carries a NaN on, max() would lose it.
        largest = torch.maximum(largest, (model(tokens_BT) - torch.from_numpy(theirs)).abs().max())
    return float(largest)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's words about packages that no decoder needs, and about torch's own deprecated calls."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            yield
    finally:
        exporter.setLevel(level)
