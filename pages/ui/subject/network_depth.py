"""Sample layers through the depth of a network."""

import cam

DEPTHS = 5


def sample_depth(model: cam.Model) -> list[str]:
    """Sample layers from the first to the last: the last of each resolution, or evenly spaced."""
    layers = {layer.name: layer for layer in model.feature_layers}
    order = list(layers)
    ends: dict[tuple[int, ...], str] = {}
    for name, layer in layers.items():
        parts = name.split(".")
        around = (layers.get(".".join(parts[:end])) for end in range(1, len(parts)))
        # Within a block that ends at another resolution it is a step on the way; what only holds
        # blocks, one behind the other, is no such block.
        blocks = [outer for outer in around if outer is not None and outer.kind != "Sequential"]
        if all(block.shape[1:] == layer.shape[1:] for block in blocks):
            ends[layer.shape[1:]] = name
    names = sorted(ends.values(), key=order.index)
    if len(names) < 3:
        count = min(DEPTHS, len(order))
        names = [order[round(step * (len(order) - 1) / max(count - 1, 1))] for step in range(count)]
    return list(dict.fromkeys(names[-DEPTHS:]))


def choose_instructive(model: cam.Model) -> str | None:
    """Choose a layer at which every step of Grad-CAM does something; None: the default.

    At the last layer gradients are the same at all positions, and nothing is left for the mean.
    """
    names = sample_depth(model) if len(model.feature_layers) > 1 else []
    return names[-2] if len(names) > 1 else None
