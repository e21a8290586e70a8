"""What a trained model is worth, says and becomes: losses, benchmarks, text, export to other formats, an endpoint."""
