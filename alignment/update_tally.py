"""What the updates of one PPO step add up to, for its metrics.

Knows nothing of models or tensors. Different from a mean of means: sums over minibatches are divided at the end, by real tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class UpdateTally:
    """Sums over the minibatches of a step; means are taken at the end, over real tokens."""

    tokens: float = 0.0
    value_tokens: float = 0.0
    policy_loss: float = 0.0
    value_loss: float = 0.0
    ptx_loss: float = 0.0
    kl_loss: float = 0.0
    clipped: float = 0.0
    approximate_kl: float = 0.0
    ratio: float = 0.0
    policy_norms: list[float] = field(default_factory=list)
    value_norms: list[float] = field(default_factory=list)
    n_stopped: int = 0

    def metrics(self) -> dict[str, float]:
        """TRL's names where it has them."""
        tokens, value_tokens = max(self.tokens, 1.0), max(self.value_tokens, 1.0)
        updates = max(len(self.policy_norms), 1)
        found = {
            "loss/policy_avg": self.policy_loss / tokens,
            "policy/approxkl_avg": self.approximate_kl / tokens,
            "policy/clipfrac_avg": self.clipped / tokens,
            "policy/grad_norm": sum(self.policy_norms) / updates,
            "policy/updates": float(len(self.policy_norms)),
            "policy/updates_skipped": float(self.n_stopped),
        }
        # Nothing was measured in a step that trains only the value model; 1 is the ratio of a policy to itself.
        found["val/ratio"] = self.ratio / tokens if self.tokens else 1.0
        if self.value_norms:
            found["loss/value_avg"] = self.value_loss / value_tokens
            found["val/grad_norm"] = sum(self.value_norms) / len(self.value_norms)
        if self.kl_loss:
            found["loss/kl_avg"] = self.kl_loss / tokens
        if self.ptx_loss:
            found["loss/ptx_avg"] = self.ptx_loss / updates
        return found
