"""Preparation: text from sources through cleaning and a tokenizer into shards; `run.prepare` reads top to bottom."""

from trainer.data.prepare.pipeline import Pipeline, load_pipeline
from trainer.data.prepare.run import Prepared, prepare

__all__ = ["Pipeline", "Prepared", "load_pipeline", "prepare"]
