"""Load the networks that are built by hand."""

from cam._models.families.parts import Parts, Weights
from cam._models.preprocessing import standard_transform
from cam._truth.known_networks import SIDE, make_known_network
from cam.errors import ModelError


def load_known(name: str, weights: Weights) -> Parts:
    """Load a network whose exact attribution is known."""
    if weights != "DEFAULT":
        raise ModelError(
            f"known/{name} is built by hand, and its answers follow from its weights; leave "
            "weights='DEFAULT'"
        )
    # 127 becomes 0, as 0 and 254 become -1 and 1.
    grey = (127 / 255,) * 3
    network = make_known_network(name)
    transform = standard_transform(SIDE, SIDE, mean=grey, std=grey)
    # A blank picture tells nothing of a network that is silent without its patterns.
    return Parts(network, transform, network.labels, network.layer)
