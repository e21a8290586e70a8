"""What a run will need and cost, computed before it starts: pure functions over a RunConfig; no clock, no network."""
