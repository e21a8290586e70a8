"""A scaling law of one's own runs: `gpt-run scaling-law fit`."""
