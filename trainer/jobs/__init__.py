"""Runs on a cluster, as `gpt-run job` and `gpt-run status` handle them: rendered, applied, watched, scaled, suspended.

Imports no torch, and the clients of the `kubernetes` extra only when a cluster is asked.
"""
