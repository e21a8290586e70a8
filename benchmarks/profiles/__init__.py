"""Where an activity of the product spends its time: `python -m benchmarks.profiles NAME`."""
