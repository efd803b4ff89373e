"""Shift the weights of one attention, for their gradient."""

from torch import Tensor

from cam._engine.attention.attention_capture import AttentionReader


class _Shift(AttentionReader):
    def __init__(self, batch: Tensor, call: int, shift: Tensor) -> None:
        super().__init__(batch, blocks=False)
        self._call, self._shift = call, shift

    def _keep(self, weights: Tensor) -> Tensor:
        self.weights.append(weights)
        if len(self.weights) != self._call + 1:
            return weights
        return weights + self._shift.reshape(weights.shape).to(weights.dtype)


def shift_attention(batch: Tensor, call: int, shift: Tensor) -> AttentionReader:
    """Return a mode in which one attention's weights are shifted.

    Args:
        batch: What goes through the network.
        call: Which attention of the forward pass, counted from 0.
        shift: (n, rows·N), for its n weights of any shape with rows·N entries each.
    """
    return _Shift(batch, call, shift)
