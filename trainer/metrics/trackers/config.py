"""Settings of trackers: which there are, and where each keeps what it is given.

`trainer.config` puts a list of them under the key `trackers`. A `type` key picks the variant. docs/extending.md adds a
new one, step by step.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from trainer.settings import Settings


class TensorBoardConfig(Settings):
    """TensorBoard's event files, in `logs/tensorboard/` of the run's folder in the store."""

    packages: ClassVar[tuple[str, ...]] = ("tensorboard",)
    type: Literal["tensorboard"] = "tensorboard"
    """Picks this tracker; needs the extra `tensorboard`."""


class WandbConfig(Settings):
    """Weights & Biases. The key comes from WANDB_API_KEY alone, another server than theirs from WANDB_BASE_URL."""

    packages: ClassVar[tuple[str, ...]] = ("wandb",)
    type: Literal["wandb"] = "wandb"
    """Picks this tracker; needs the extra `wandb`."""
    project: str = Field(default="gpt-run", min_length=1)
    """Project that the run is shown in."""
    entity: str | None = None
    """User or team that the project belongs to; null means the default of the key's owner."""
    mode: Literal["online", "offline"] = "online"
    """`offline` writes below `folder` and sends nothing; `wandb sync` does later."""
    folder: str | None = None
    """Local folder for wandb's own files; null means `logs` of the run in a local store, else a temporary folder."""
    tags: tuple[str, ...] = ()
    """Words to find the run by."""


TrackerConfig = Annotated[TensorBoardConfig | WandbConfig, Field(discriminator="type")]
