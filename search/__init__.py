"""The mathematics of deciding. Pure: the same view and seed give the same decisions.

Nothing here does I/O, reads a clock or the environment, or knows SQL, HTTP or Ray.
"""
