"""Optimizers by name: what is known of them, how they are built, and how a step is made with each."""
