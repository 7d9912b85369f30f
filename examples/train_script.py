"""A training script of one's own: logistic regression on two noisy rings, in plain NumPy.

Run it alone (``python examples/train_script.py``), or let a study tune it (``trimtab submit
examples/script.yaml --watch``). The three calls to trimtab are all it takes.
"""

import numpy as np

import trimtab

STEPS = 400
REPORT_EVERY = 20


def rings(count, rng):
    """Points on two rings, as polynomial features of shape (count, 6), and which ring each is on."""
    ring = rng.integers(0, 2, count)
    angle = rng.uniform(0, 2 * np.pi, count)
    radius = 1.0 + ring + rng.normal(0, 0.35, count)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    return np.stack([np.ones(count), x, y, x * x, x * y, y * y], axis=1), ring


def loss(weights, features, ring):
    """Mean cross entropy in nats."""
    signed = (features @ weights) * (2 * ring - 1)
    return float(np.mean(np.logaddexp(0.0, -signed)))


def main():
    config = trimtab.params(lr=0.01, momentum=0.0, weight_decay=0.0, batch_size=32)
    saved = trimtab.checkpoint_dir() / "state.npz"
    features, ring = rings(2_000, np.random.default_rng(0))
    test_features, test_ring = rings(1_000, np.random.default_rng(1))

    step, weights, velocity = 0, np.zeros(6), np.zeros(6)
    if saved.exists():
        state = np.load(saved)
        step, weights, velocity = int(state["step"]), state["weights"], state["velocity"]

    while step < STEPS:
        step += 1
        # Seeded by the step: a run that goes on from a checkpoint sees the batches it would have seen.
        chosen = np.random.default_rng(step).integers(0, len(ring), config["batch_size"])
        x, y = features[chosen], ring[chosen]
        error = 1.0 / (1.0 + np.exp(-np.clip(x @ weights, -50, 50))) - y
        gradient = x.T @ error / len(y) + config["weight_decay"] * weights
        velocity = config["momentum"] * velocity - config["lr"] * gradient
        weights = weights + velocity
        if step % REPORT_EVERY == 0 and trimtab.report(
            step, test_loss=loss(weights, test_features, test_ring)
        ):
            break

    np.savez(saved, step=step, weights=weights, velocity=velocity)


if __name__ == "__main__":
    main()
