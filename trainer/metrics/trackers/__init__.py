"""Where the figures of a run go besides its own lines: TensorBoard, Weights & Biases."""
