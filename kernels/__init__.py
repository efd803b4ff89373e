"""Fused kernels for what follows a visual attribution's backward pass.

The package knows tensors only: nothing of models, images on disk, or pages. Where a tensor is on
a GPU the work is done by a Triton kernel in one launch; elsewhere by plain torch, which is also
each kernel's truth in the tests. `backend` returns which of the two a tensor takes.

It is installed as `cam.kernels`, since a package of the registry is called `kernels`. In a
checkout, where this folder lies at the top level, `import kernels` gives the same module.
"""

import sys

if __name__ == "kernels":
    import cam.kernels

    sys.modules[__name__] = cam.kernels
else:
    from .blending.colormaps import COLORMAPS
    from .blending.operation import overlay
    from .class_activation.operation import fused_cam
    from .class_activation.rules import RULES
    from .input_gradient.operation import gradient_map
    from .launch.dispatch import backend
    from .launch.normalisation import normalise
    from .masking.operation import masked_batch, ranked_batch, region_batch
    from .moments.operation import Moments

__all__ = [
    "COLORMAPS",
    "RULES",
    "Moments",
    "backend",
    "fused_cam",
    "gradient_map",
    "masked_batch",
    "normalise",
    "overlay",
    "ranked_batch",
    "region_batch",
]
