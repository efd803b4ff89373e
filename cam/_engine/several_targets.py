"""Share one forward pass among several targets of an image."""

from collections.abc import Sequence

import torch
from torch import Tensor


def repeat_for(values: Tensor, owner: Tensor | None) -> Tensor:
    """Repeat each image's values for each of its targets; one image's are not copied.

    Args:
        values: (B, …).
        owner: (N,) int64, the image of each target; None: the first of the first, and so on.
    """
    if owner is None:
        return values
    return values.expand(len(owner), *values.shape[1:]) if len(values) == 1 else values[owner]


def gradients_of_each(
    scores: Tensor, leaves: Sequence[Tensor], owner: Tensor
) -> list[Tensor | None]:
    """Return the gradient of each score by its image's part of each leaf.

    Images do not affect each other, so one backward pass serves a target of every image: there
    are as many passes as the image with most targets has.

    Args:
        scores: (N,), part of the graph.
        leaves: (B, …) each.
        owner: (N,) int64, the image of each score.

    Returns:
        (N, …) of each leaf; None where no score depends on it.
    """
    owners = owner.tolist()
    turns = [owners[:index].count(image) for index, image in enumerate(owners)]
    rounds: list[list[Tensor | None]] = []
    for turn in range(max(turns) + 1):
        selected = scores.new_tensor([float(each == turn) for each in turns])
        last = turn == max(turns)
        rounds.append(
            list(
                torch.autograd.grad(
                    scores, leaves, selected, allow_unused=True, retain_graph=not last
                )
            )
        )
    gradients: list[Tensor | None] = []
    for number in range(len(leaves)):
        parts = [each[number] for each in rounds]
        rows = [
            None if (part := parts[turn]) is None else part[image]
            for turn, image in zip(turns, owners, strict=True)
        ]
        example = next((row for row in rows if row is not None), None)
        if example is None:
            gradients.append(None)
        else:
            gradients.append(
                torch.stack([torch.zeros_like(example) if row is None else row for row in rows])
            )
    return gradients
