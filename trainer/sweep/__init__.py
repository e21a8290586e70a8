"""Several runs that differ in a few keys, and what their losses say: `gpt-run sweep` and `gpt-run scaling-law`."""
