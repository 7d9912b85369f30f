"""Existing training code under Trimtab, unchanged or with one more line.

- :mod:`trimtab.adapters.ray_tune` runs a function or class made for Ray Tune.
- :mod:`trimtab.adapters.huggingface` is a callback of ``transformers.Trainer``.
- :mod:`trimtab.adapters.lightning` is a callback of Lightning's ``Trainer``.

Each reports measurements, saves when Trimtab pauses the trial, and goes on from there. Each module imports
its framework, which Trimtab itself does not need.
"""
