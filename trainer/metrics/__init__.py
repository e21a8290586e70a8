"""What a run tells: log lines, training.jsonl, throughput, progress."""
