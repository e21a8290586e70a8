"""The last lines of an attempt: how it ended, where the checkpoint is, what to type next.

Called by rank 0's worker; a pure function of what it is given.
"""

from __future__ import annotations

import shlex

from trainer.metrics.console import human_number, human_seconds


def closing_summary(
    *,
    reason: str,
    step: int,
    total_steps: int,
    tokens: int,
    loss: float,
    validation_loss: float | None,
    train_seconds: float,
    checkpoint_url: str | None,
    run_url: str,
    command: str,
) -> str:
    """Several lines of text; `command` is what starts the run, `run_url` the run's folder in the store."""
    how = {
        "finished": "finished",
        "early_stopping": "ended early, validation no longer improves,",
        "preempted": "stopped as asked",
    }[reason]
    figures = [f"loss {loss:.4f}"]
    if validation_loss is not None:
        figures.append(f"validation loss {validation_loss:.4f}")
    figures.append(f"{human_number(tokens)} tokens in {human_seconds(train_seconds)} of training")
    lines = [
        f"{how} at step {step} of {total_steps}: {', '.join(figures)}",
        f"checkpoint: {checkpoint_url or 'none was saved by this attempt, see the warnings above'}",
    ]
    if reason == "preempted":
        lines.append(f"go on:      {command}")
    else:
        run = shlex.quote(run_url)
        lines.append(f'try it:     gpt-run generate {run} --prompt "..."')
        lines.append(f"export it:  gpt-run checkpoints export {run} --format hf --output FOLDER")
    return "\n".join(lines)
