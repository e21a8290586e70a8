"""What a data set holds: totals, lengths, vocabulary use, repeats, samples, and what its filters dropped."""

from trainer.data.inspect.report import Report
from trainer.data.inspect.run import inspect_data

__all__ = ["Report", "inspect_data"]
