"""The mathematics of deciding. Pure: the same view and seed give the same decisions.

Nothing here does I/O, reads a clock or the environment, or knows SQL, HTTP or Ray.

What is where:

- ``space``, ``domains``, ``parsing``: what is legal; the unit cube and back; the wire's JSON
- ``view``: what search sees of a study; ``decision``: what it answers; ``errors``: what it refuses
- ``decide``: the entry, which runs a strategy and checks what it answers
- ``strategies``: ``base`` is their contract, ``__init__`` their register; ``sobol`` and ``random``
  (``quasirandom``); ``asha`` and ``hyperband`` (on ``rungs``), ``bohb`` (on ``hyperband``); ``bo``, ``tpe``
  and ``cmaes`` (on ``modelled`` and ``knowledge``); ``pbt``, which forks trials. Only ``ax_model`` imports
  Ax, ``parzen`` Optuna and ``cmaes`` ``cma``, and only when a model is needed
- ``sampling``: configurations that were not tried yet
- ``stopping``: rules that judge a curve while it grows
- ``simulator``: whole studies on a virtual clock
"""
