"""The package that runs in trainer pods and on laptops; the console script is `gpt-run`.

Import layers, bottom to top (enforced by import-linter, see pyproject.toml): errors and settings; model, data and
checkpoint; parallel, evaluate and metrics; config, which composes their settings; train and elastic; cli.
"""

from trainer.version import VERSION

__version__ = VERSION
