"""Give a backbone's features of an image as one vector."""

from typing import Any

from torch import Tensor, nn


class Embedding(nn.Module):
    """A backbone of transformers, whose record becomes (B, D).

    That is what the network pools itself; where it does not pool, the first token, which stands
    for the image, or the mean of feature maps.

    Args:
        network: It returns ``pooler_output`` or ``last_hidden_state``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the features, (B, D)."""
        output: Any = self.network(pixels)
        pooled: Tensor | None = getattr(output, "pooler_output", None)
        if pooled is not None:
            return pooled.flatten(1)
        hidden: Tensor = output.last_hidden_state
        return hidden[:, 0] if hidden.ndim == 3 else hidden.mean((2, 3))
