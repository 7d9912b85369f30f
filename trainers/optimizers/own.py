"""Optimizers that no package has. Each is a few lines of a paper, and a test holds it to its formula."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Groups = Iterable[Tensor] | Iterable[dict[str, Any]]


class AdamS(Optimizer):
    """Adam whose momentum is the normalizer: no second moment, half the memory of Adam's state.

    Zhang et al., "AdamS: Momentum Itself Can Be A Normalizer for LLM Pretraining and Post-training", 2025
    (arXiv:2505.16363)::

        m_t = beta1 m_{t-1} + (1 - beta1) g_t
        v_t = beta2 m_{t-1}^2 + (1 - beta2) g_t^2
        w_t = w_{t-1} - lr (m_t / (sqrt(v_t) + eps) + weight_decay w_{t-1})
    """

    def __init__(
        self,
        params: Groups,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update from the gradients as they stand."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                momentum = state["momentum"]
                size = (beta2 * momentum.square()).addcmul_(weight.grad, weight.grad, value=1 - beta2)
                momentum.lerp_(weight.grad, 1 - beta1)
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.addcdiv_(momentum, size.sqrt_().add_(group["eps"]), value=-group["lr"])


class RandomScalingSGDM(Optimizer):
    """SGD with momentum whose every step has a random length.

    Zhang, Cutkosky, "Random Scaling and Momentum for Non-smooth Non-convex Optimization", ICML 2024
    (arXiv:2405.09742)::

        m_t = momentum m_{t-1} + (1 - momentum) g_t
        w_t = w_{t-1} - s_t lr (m_t + weight_decay w_{t-1})        s_t exponential with mean 1

    One ``s_t`` scales the step of all weights.
    """

    def __init__(
        self, params: Groups, lr: float = 0.1, momentum: float = 0.9, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update; draws one number from torch's global generator."""
        scale = float(torch.empty(()).exponential_())
        for group in self.param_groups:
            length = scale * group["lr"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                momentum = state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
                weight.mul_(1 - length * group["weight_decay"]).sub_(momentum, alpha=length)


class MeZO(Optimizer):
    """SGD along a random direction, with the slope from two forward passes: no gradient, no state.

    Malladi et al., "Fine-Tuning Language Models with Just Forward Passes", NeurIPS 2023
    (arXiv:2305.17333)::

        p_t = (L(w + eps z) - L(w - eps z)) / (2 eps)        z standard normal
        w_t = w_{t-1} - lr (p_t z + weight_decay w_{t-1})

    ``z`` is drawn anew from a kept seed each time it is needed, so that the weights are all that is held.
    """

    def __init__(
        self, params: Groups, lr: float = 1e-6, eps: float = 1e-3, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """One update.

        :param closure: loss at the weights as they stand, on the same batch each time
        :return: mean of the losses on both sides
        """
        seed = int(torch.randint(2**62, ()))
        self._walk(seed, lambda group: group["eps"])
        ahead = closure()
        self._walk(seed, lambda group: -2 * group["eps"])
        behind = closure()
        self._walk(seed, lambda group: group["eps"])
        rise = float(ahead - behind) / 2
        for group in self.param_groups:
            for weight in group["params"]:
                weight.mul_(1 - group["lr"] * group["weight_decay"])
        self._walk(seed, lambda group: -group["lr"] * rise / group["eps"])
        return (ahead + behind) / 2

    def _walk(self, seed: int, length: Callable[[dict[str, Any]], float]) -> None:
        """Move all weights along the direction that ``seed`` draws."""
        generators: dict[torch.device, torch.Generator] = {}
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.device not in generators:
                    generators[weight.device] = torch.Generator(weight.device).manual_seed(seed)
                direction = torch.randn(
                    weight.shape,
                    dtype=weight.dtype,
                    device=weight.device,
                    generator=generators[weight.device],
                )
                weight.add_(direction, alpha=length(group))


@torch.no_grad()
def clip_coordinates(weights: Iterable[Tensor], quantile: float) -> None:
    """Cut each coordinate of the gradient to the given quantile of the sizes of all its coordinates.

    The coordinate-wise clipping of Pan, Li, "Toward Understanding Why Adam Converges Faster Than SGD for
    Transformers", 2023 (arXiv:2306.00204): the few largest coordinates do the harm. With the sizes sorted,
    ``a_1 <= ... <= a_n``, the bound is ``a_k`` with ``k = ceil(quantile n)``.
    """
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    if not gradients:
        return
    sizes = torch.cat([gradient.abs().flatten() for gradient in gradients])
    rank = max(1, -int(-quantile * len(sizes) // 1))
    bound = sizes.kthvalue(min(rank, len(sizes))).values
    for gradient in gradients:
        gradient.clamp_(-bound, bound)
