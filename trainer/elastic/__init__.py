"""Processes of a run: launcher, signals and their settings."""
