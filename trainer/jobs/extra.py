"""Says what to install where the clients of Kubernetes are missing. Called by commands before they import them."""

from __future__ import annotations

import importlib

from trainer.errors import UserError


def need_clients() -> None:
    """UserError unless the `kubernetes` extra is installed."""
    for package in ("kubernetes", "kubeflow.training"):
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            raise UserError(
                f"the Python package {error.name} is not installed",
                expected="the clients of Kubernetes and of the training operator",
                fix="pip install gpt-run[kubernetes]",
            ) from None
