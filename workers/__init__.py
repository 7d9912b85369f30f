"""The Ray side: places runs, streams measurements back, saves and restores checkpoints."""
