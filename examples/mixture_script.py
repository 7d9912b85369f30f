"""A data mixture, small enough for a laptop: what share of the training data should each source have?

A network of one hidden layer learns a curve on [0, 3]. Each of three sources shows it one third of the
way: "calm" is easily learned, "steep" takes more data, "noisy" more still. The metric is the error over the
whole way. ``width`` is the size of the network: small ones are cheap and nearly right about the mixture.
Run it alone (``python examples/mixture_script.py``), or let a study choose (``trimtab submit
examples/mixture.yaml --watch``).
"""

import numpy as np

import trimtab

STEPS = 1_000
REPORT_EVERY = 100
BATCH = 64
SOURCES = {"calm": (0.0, 0.02), "steep": (1.0, 0.05), "noisy": (2.0, 0.4)}
"""Where each begins, and the noise of its answers."""


def answer(x):
    """The curve to be learned, shape as ``x``."""
    return np.sin(2 * x) + np.where(x > 1, np.sin(9 * x), 0.0) * np.minimum(np.maximum(x - 1, 0), 1)


def batch(shares, rng):
    """Points and answers of a batch that is mixed as ``shares`` say."""
    starts, noises = np.array(list(SOURCES.values())).T
    source = rng.choice(len(SOURCES), BATCH, p=shares)
    x = starts[source] + rng.random(BATCH)
    return x, answer(x) + noises[source] * rng.normal(size=BATCH)


def hidden(x, inner):
    """Activations of the hidden layer, shape (len(x), width)."""
    return np.tanh(x[:, None] * inner[0] + inner[1])


def main():
    defaults = {f"mix/{name}": 1 / len(SOURCES) for name in SOURCES}
    config = trimtab.params(width=64, **defaults)
    width = config["width"]
    shares = np.array([config[f"mix/{name}"] for name in SOURCES])
    shares = shares / shares.sum()
    saved = trimtab.checkpoint_dir() / "state.npz"
    rng = np.random.default_rng(0)
    scale = rng.normal(0, 6, width)
    inner, outer = np.stack([scale, -scale * rng.uniform(0, 3, width)]), np.zeros(width)
    everywhere = np.linspace(0, 3, 600)
    step = 0
    if saved.exists():
        state = np.load(saved)
        step, inner, outer = int(state["step"]), state["inner"], state["outer"]

    while step < STEPS:
        step += 1
        rate = 0.5 * (1 - step / (STEPS + 1)) / width
        # Seeded by the step: a run that goes on from a checkpoint sees the batches it would have seen.
        x, y = batch(shares, np.random.default_rng(step))
        active = hidden(x, inner)
        error = active @ outer - y
        back = error[:, None] * outer * (1 - active**2)
        outer = outer - rate * active.T @ error / BATCH * 8
        inner = inner - rate * np.stack([x @ back, back.sum(axis=0)]) / BATCH * 8
        if step % REPORT_EVERY == 0:
            loss = float(np.mean((hidden(everywhere, inner) @ outer - answer(everywhere)) ** 2))
            if trimtab.report(step, error=loss):
                break

    np.savez(saved, step=step, inner=inner, outer=outer)


if __name__ == "__main__":
    main()
