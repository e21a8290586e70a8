"""What a run did, from its own files: `gpt-run report`."""

from trainer.metrics.report.build import RunReport, report_run
from trainer.metrics.report.model import Report

__all__ = ["Report", "RunReport", "report_run"]
