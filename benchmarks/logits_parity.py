"""Largest difference of logits between this decoder and Transformers' models on the same weights, both ways.

    python benchmarks/logits_parity.py [--json]

`export`: a decoder's weights are written as a Hugging Face folder, which Transformers loads. `import`: a Transformers
model saves a folder, which the decoder loads. Fp32, random weights in every parameter (biases and norms too), random
tokens over the whole context. Bar: 1e-4. Exits with 1 beyond it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.common import hardware
from trainer.model.config import GPT2Config, LlamaConfig, ModelConfig, NeoXConfig
from trainer.model.decoder import Decoder
from trainer.model.hf import export_hf, import_hf

BAR = 1e-4
SIZES = {"vocab_size": 8192, "context": 256, "layers": 8, "width": 384, "heads": 6}
CONFIGS: dict[str, ModelConfig] = {
    "gpt2": GPT2Config(**SIZES),
    "gpt2, untied, padded vocabulary": GPT2Config(**SIZES, tied=False, vocab_multiple=1000),
    "llama": LlamaConfig(**SIZES),
    "llama, 2 key/value heads, tied": LlamaConfig(**SIZES, kv_heads=2, tied=True),
    "neox, rotary on 25%": NeoXConfig(**SIZES),
    "neox, sequential, rotary on 100%": NeoXConfig(**SIZES, residual="sequential", rope_fraction=1.0),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args().json
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    results = []
    for name, config in CONFIGS.items():
        result = {"model": name} | differences(config)
        results.append(result)
        if not as_json:
            print(f"{name:34} export {result['export']:.1e}  import {result['import']:.1e}", flush=True)
    if as_json:
        versions = {"transformers": transformers.__version__}
        print(json.dumps({"bar": BAR, "hardware": hardware() | versions, "results": results}))
    return int(max(max(result["export"], result["import"]) for result in results) > BAR)


def differences(config: ModelConfig) -> dict[str, Any]:
    """Largest |difference| by direction; the import side starts from what Transformers saved with other weights."""
    model = Decoder(config)
    randomise(model, seed=1)
    with tempfile.TemporaryDirectory() as temporary:
        exported, saved = Path(temporary, "exported"), Path(temporary, "saved")
        export_hf({name: value.detach() for name, value in model.named_parameters()}, config, exported)
        other = transformers.AutoModelForCausalLM.from_pretrained(exported).eval()
        by_export = largest_difference(model, other)
        randomise(other, seed=2)
        other.save_pretrained(saved)
        imported_config, state = import_hf(saved)
    imported = Decoder(imported_config)
    imported.load_state_dict(state)
    return {"export": by_export, "import": largest_difference(imported, other)}


@torch.no_grad()
def randomise(model: torch.nn.Module, seed: int) -> None:
    """Values wide enough that every parameter shows in the logits."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        centre = 1.0 if parameter.dim() == 1 and name.endswith("weight") else 0.0
        parameter.normal_(centre, 0.05, generator=generator)


@torch.no_grad()
def largest_difference(ours: Decoder, theirs: Any) -> float:
    tokens_BT = torch.randint(0, SIZES["vocab_size"], (4, SIZES["context"]), generator=torch.Generator().manual_seed(3))
    return float((ours(tokens_BT) - theirs(tokens_BT).logits).abs().max())


if __name__ == "__main__":
    sys.exit(main())
