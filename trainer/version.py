"""The version of gpt-run, read by the build, `gpt-run --version` and checkpoints."""

VERSION = "0.1.0"
