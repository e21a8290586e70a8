"""Tokenizers as a user meets them: train one, take one that exists, check one, and encode with the fastest safe engine.

`config` says what a pipeline file may ask for and loads it; `train` and `sample` make a new one; `ranks` and `hub` read
foreign ones; `folder` writes the result; `verify` checks it; `encoder` turns text into ids. Called by
`gpt-run tokenizer`, and by preparation for `config` and `encoder`. One loaded tokenizer, its fingerprint and its ids
are `trainer.data.tokenizer`'s.
"""
