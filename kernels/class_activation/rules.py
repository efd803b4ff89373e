"""The gradient-CAM rules: the one list that names and numbers derive from."""

from collections.abc import Iterable
from enum import IntEnum


class Rule(IntEnum):
    """A rule, by the number that the kernels know it by.

    Those up to Grad-CAM++ give each channel a weight, and their map is Σ_c w_c A_cs; the others
    weigh every position separately.
    """

    GRADCAM = 0
    XGRADCAM = 1
    GRADCAM_PLUS_PLUS = 2
    LAYERCAM = 3
    HIRESCAM = 4
    GRADCAM_ELEMENTWISE = 5

    @property
    def weighs_channels(self) -> bool:
        """Whether the rule has channel weights."""
        return self <= Rule.GRADCAM_PLUS_PLUS


NUMBERS = {rule.name.lower(): rule for rule in Rule}
RULES = tuple(NUMBERS)


def encode(rules: Iterable[int]) -> int:
    """Pack rules into a number, four bits each in their order."""
    return sum(int(rule) << (4 * position) for position, rule in enumerate(rules))
