"""`gpt-run data fetch`: brings files from the web and from buckets to a folder, and folders up to a bucket.

`run.fetch` is the door; the command in `trainer.cli.fetch` calls it.
"""
