"""Parts of `operators.decide`: what is known, what failed, how many pods, and what to say about it."""
