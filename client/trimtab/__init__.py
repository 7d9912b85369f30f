"""Trimtab: hyperparameter tuning as a service.

A training script needs three calls::

    import trimtab

    config = trimtab.params(lr=1e-3, width=64)      # what to train with
    folder = trimtab.checkpoint_dir()               # where to save, and to resume from
    ...
    if trimtab.report(step, val_loss=loss):         # True: save and exit now
        save(folder)
        break

A fourth, ``trimtab.lr(step, default)``, is the learning rate of a step where the study plans one. They
use the standard library only. To talk to the service, use :class:`trimtab.client.Client`.
"""

from trimtab.script import checkpoint_dir, lr, params, report

__version__ = "0.1.0"

__all__ = ["__version__", "checkpoint_dir", "lr", "params", "report"]
