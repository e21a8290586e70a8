"""What somebody says about a run: a file of claims, or single ones on the command line.

Read by `trainer.cli.plan`, held against the plan by `trainer.plan.contradictions`. Each preset of a reference run has
the claims of its authors in `trainer/presets/claims/`.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from trainer.complaints import complaints
from trainer.errors import UserError
from trainer.settings import Settings
from trainer.yaml_dialect import load_yaml, parse_yaml


def _as_range(value: Any) -> Any:
    """Let a number stand for the range that it is both ends of."""
    return [value, value] if isinstance(value, int | float) and not isinstance(value, bool) else value


def _in_order(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] > interval[1]:
        raise ValueError(f"found {list(interval)}; expected the lower end first")
    return interval


Positive = Annotated[float, Field(gt=0)]
Range = Annotated[
    tuple[Positive, Positive],
    BeforeValidator(_as_range, json_schema_input_type=float | list[float]),
    AfterValidator(_in_order),
]


class Claims(Settings):
    """Each key is a number or a range [low, high]; those left out are not looked at."""

    parameters: Positive | None = None
    """Parameters of the model; compared at the digits that are given."""
    heads: int | None = Field(default=None, ge=1)
    """Attention heads."""
    tokens: Range | None = None
    """Training tokens of the whole run."""
    steps: Range | None = None
    """Optimizer steps of the whole run."""
    epochs: Range | None = None
    """Passes over the training set."""
    dataset_tokens: Range | None = None
    """Different tokens in the training set."""
    dataset_gb: Range | None = None
    """Size of the tokens on disk, gigabytes."""
    tokens_per_second: Range | None = None
    """Of all GPUs together."""
    tokens_per_second_per_gpu: Range | None = None
    """Of one GPU."""
    micro_steps_per_second: Range | None = None
    """Forward and backward passes of one micro-batch per second, on each GPU."""
    steps_per_hour: Range | None = None
    """Optimizer steps."""
    mfu: Range | None = None
    """Share of the GPUs' dense peak, 0 to 1, by either convention."""
    hours: Range | None = None
    """Duration of the run."""
    days: Range | None = None
    """Duration of the run."""
    gpus: Positive | None = None
    """Number of GPUs."""
    price_per_hour: Range | None = None
    """Of all GPUs together."""
    cost: Range | None = None
    """Of the whole run."""
    memory_gb: Range | None = None
    """Per GPU, gigabytes."""
    initial_loss: Range | None = None
    """Before the first step, nats per token."""
    final_loss: Range | None = None
    """After the last step, nats per token."""
    perplexity: Range | None = None
    """After the last step."""
    optimal_tokens: Range | None = None
    """Compute-optimal training tokens for this size of model."""
    lost_seconds: Range | None = None
    """Most work that a crash costs."""
    save_every_steps: Positive | None = None
    """Steps between two saves, where claims speak of another interval than the run file."""


def read_claims(reference: str | None, single: list[str]) -> Claims:
    """The claims of a file, or of the preset of that name; `KEY=VALUE` ones are laid over them.

    A file is a mapping of claims, or one with them under `claims`. Raises UserError naming every key that is wrong.
    """
    raw: dict[str, Any] = {}
    if reference is not None:
        raw = _read(reference)
    for item in single:
        key, separator, text = item.partition("=")
        if not separator:
            raise UserError(
                f"--claim {item}", expected="KEY=VALUE such as mfu=0.4", fix="write the key, `=`, the value"
            )
        raw[key.strip()] = parse_yaml(text, source=f"--claim {key}")
    try:
        return Claims.model_validate(raw)
    except ValidationError as error:
        problems = "\n".join(f"  - {problem}" for problem in complaints(error, raw, Claims))
        raise UserError(
            f"{reference or '--claim'}: claims that cannot be read\n{problems}",
            expected=f"numbers or ranges [low, high] under {', '.join(Claims.model_fields)}",
            fix="correct the keys named above",
        ) from None


def claim_names() -> list[str]:
    """Presets whose authors' claims are known."""
    folder = resources.files("trainer") / "presets" / "claims"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def _read(reference: str) -> dict[str, Any]:
    path = Path(reference)
    if not path.is_file():
        if reference not in claim_names():
            raise UserError(
                f"--claims {reference}: neither a file nor a preset with claims",
                expected=f"a YAML file of claims or one of {', '.join(claim_names())}",
                fix="check the path or the name",
            )
        path = Path(str(resources.files("trainer") / "presets" / "claims" / f"{reference}.yaml"))
    raw = load_yaml(path)
    if isinstance(raw, dict) and isinstance(raw.get("claims"), dict):
        raw = raw["claims"]
    if not isinstance(raw, dict):
        raise UserError(
            f"{reference}: not a mapping of claims",
            expected="keys such as parameters, tokens_per_second, hours",
            fix="see docs/planning.md for an example",
        )
    return raw
