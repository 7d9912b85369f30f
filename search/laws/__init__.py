"""Scaling laws: what small runs say of the learning rate, the batch size and the loss of a larger one."""
