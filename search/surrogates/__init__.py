"""Models of learning curves: what unfinished and untried configurations will come to."""
