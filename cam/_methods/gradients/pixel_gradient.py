"""Methods that read the gradient of the score by the pixels."""

from cam._engine.method_sources import PixelGradients
from cam._methods.base.maps import reduce_gradient
from cam._methods.base.method_registry import register_method
from cam.types import Maps


@register_method(
    "saliency",
    title="Saliency map",
    family="gradient",
    kind="sensitivity",
    reads=PixelGradients,
    volumes=True,
    cost="1 forward, and the backward down to the pixels",
)
def saliency(pixels: PixelGradients) -> Maps:
    """Which pixels the score is most sensitive to: the largest |gradient| over the channels.

    With G the gradient of the raw score by the pixels, (B, 3, H, W): map = max_c |G_c|, min-max
    normalised for each image.

    References:
        Simonyan, Vedaldi and Zisserman, Deep Inside Convolutional Networks: Visualising Image
        Classification Models and Saliency Maps, 2013, section 3
    """
    return reduce_gradient(pixels.gradients, reduce="max")


@register_method(
    "input_x_gradient",
    title="Input × gradient",
    family="gradient",
    kind="contribution",
    reads=PixelGradients,
    volumes=True,
    cost="1 forward, and the backward down to the pixels",
)
def input_x_gradient(pixels: PixelGradients) -> Maps:
    """What each pixel adds to the score, if the score were linear: its value times its gradient.

    With x the image after normalisation and G the gradient of the raw score by it, both
    (B, 3, H, W): map = Σ_c x_c G_c, signed. The other map shows |Σ_c x_c G_c|, min-max normalised
    for each image. A pixel of the mean colour, 0 after normalisation, gets nothing.

    References:
        Shrikumar et al., Not Just a Black Box: Learning Important Features Through Propagating
        Activation Differences, 2016
    """
    return reduce_gradient(pixels.gradients, pixels.inputs)
