"""Peak memory of `gpt-run checkpoints export`, against that of a process that loads the model and saves it whole.

    python -m benchmarks.export_memory [--layers 12] [--json]

GPT-2 of 768 features and 50,257 tokens, 124M parameters with 12 layers, as a checkpoint with the two averages of AdamW.
Each side is a process of its own, and so is its baseline, which does the same with a model of one layer and 256 tokens:
the figure is how much more the first needs than the second, over the bytes of the model. `streamed` is the command;
`whole` loads the same checkpoint with `load_model_tensors` and writes it with safetensors' own `save_file`. The largest
tensor, the embedding, is 31% of this model. Bar: 0.75 of the model. Exits with 1 beyond it. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from typing import Any

import torch

from benchmarks.common import hardware
from trainer.checkpoint.attempts import claim_attempt
from trainer.checkpoint.config import KeepConfig
from trainer.checkpoint.save import Hashes, Saver, Snapshot
from trainer.checkpoint.store import open_run
from trainer.config import RunConfig
from trainer.config_file import run_config_yaml
from trainer.model.decoder import Decoder
from trainer.settings import settings_sha256

BAR = 0.75
MB = 1e6
LARGE = {"family": "gpt2"}
SMALL = {"family": "gpt2", "vocab_size": 256, "layers": 1}
PEAK = "from trainer.metrics.resident import peak_resident_bytes; print('peak', peak_resident_bytes())"
STREAMED = f"""
from trainer.__main__ import main
try:
    main()
finally:
    {PEAK}
"""
WHOLE = f"""
import sys
from safetensors.torch import save_file
from trainer.checkpoint.references import resolve_url
from trainer.checkpoint.tensors import load_model_tensors
import trainer.evaluate.export
save_file(load_model_tensors(resolve_url(sys.argv[1])), sys.argv[2])
{PEAK}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12, help="blocks of the model (default 12)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(temporary)
        model_bytes = write_checkpoint("large", LARGE | {"layers": options.layers})
        write_checkpoint("small", SMALL)
        extra = {side: peak_bytes(side, "large") - peak_bytes(side, "small") for side in ("streamed", "whole")}
    ratio = {side: num_bytes / model_bytes for side, num_bytes in extra.items()}
    report = {"bar": BAR, "model_bytes": model_bytes, "extra_bytes": extra, "ratio": ratio, "hardware": hardware()}
    if options.json:
        print(json.dumps(report))
    else:
        for side in extra:
            print(f"{side:9} {extra[side] / MB:6.0f} MB, {ratio[side]:.2f} of the model's {model_bytes / MB:.0f} MB")
    return int(ratio["streamed"] > BAR)


def write_checkpoint(name: str, model: dict[str, Any]) -> int:
    """A run `name` in runs/ with one checkpoint; the bytes of its model."""
    settings = {"name": name, "steps": 1, "sequence_length": 8, "model": model, "data": {"train": "none"}}
    config = RunConfig.model_validate(settings)
    weights = {key: parameter.detach() for key, parameter in Decoder(config.model).named_parameters()}
    averages = {kind: {key: torch.zeros_like(value) for key, value in weights.items()} for kind in ("first", "second")}
    digest = settings_sha256(config)
    attempt = claim_attempt(
        open_run("runs", name), world_size=1, config_sha256=digest, base_checkpoint=None, hosts=["here"]
    )
    saver = Saver(attempt, group=None, keep=KeepConfig())
    saver.save(
        Snapshot(
            step=1,
            tokens=1,
            epoch=0.0,
            loss=1.0,
            validation_loss=None,
            tensors={"model": weights, "optimizer": averages},
            progress={},
            rank_state=b"",
            config_yaml=run_config_yaml(config),
            hashes=Hashes(digest, settings_sha256(config.model), digest, ""),
        )
    )
    saver.wait()
    return sum(value.nbytes for value in weights.values())


def peak_bytes(side: str, run: str) -> int:
    """Most memory that the process of a side ever had."""
    arguments = {
        "streamed": [STREAMED, "checkpoints", "export", f"runs/{run}", "--output", f"{side}-{run}"],
        "whole": [WHOLE, f"runs/{run}", f"{side}-{run}.safetensors"],
    }[side]
    result = subprocess.run([sys.executable, "-c", *arguments], capture_output=True, text=True, check=True)
    return int(result.stdout.rpartition("peak ")[2])


if __name__ == "__main__":
    sys.exit(main())
