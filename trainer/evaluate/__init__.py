"""Judging a model: validation loss and text generation."""
