"""From text to batches: token sets and their formats, the order of samples, the loader, tokenizer and preparation.

`config` holds the settings; `dataset.open_tokens` opens a source; `loader.BatchLoader` turns opened sources into the
batches of a run. `order` and `mixture` are pure: which sequences make step s depends on the data's fingerprint, the
seed and s alone. Nothing here knows of models, checkpoints or the training loop.
"""
