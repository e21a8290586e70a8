"""Checkpoints: names and documents, attempts and their fence, save, load, retention, over any fsspec store.

Layering inside, lowest first: store; layout; attempts, references, retention; ranks; local, writer,
reader, cleanup; save, load; manage. The train loop uses `save` and `load`, the CLI `manage`.
"""
