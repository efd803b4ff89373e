"""Grad-CAM and a saliency map with nothing but PyTorch and its hooks.

``python examples/gradcam_from_scratch.py cat.jpg`` writes ``cat-gradcam.png`` and
``cat-saliency.png``. Read it from top to bottom: the two methods are the first two functions.
"""

import argparse
import sys
from pathlib import Path
from urllib.error import URLError

import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels


def gradcam(network: nn.Module, layer: str, batch: Tensor, targets: Tensor) -> Tensor:
    """Weigh a layer's feature maps by their mean gradients, and add them up.

    Selvaraju et al., Grad-CAM, ICCV 2017, equations 1 and 2.

    Args:
        network: A classifier in evaluation mode.
        layer: Dotted name of a module that returns feature maps (B, C, h, w).
        batch: (B, 3, H, W) floats.
        targets: (B,) int64, the class to explain of each picture.

    Returns:
        (B, H, W) in [0, 1].
    """
    captured: dict[str, Tensor] = {}

    def capture(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        captured["activations"] = output  # (B, C, h, w)
        output.register_hook(lambda gradient: captured.update(gradients=gradient))
        return output.clone()  # so that a ReLU in place after the layer cannot overwrite it

    handle = network.get_submodule(layer).register_forward_hook(capture)
    try:
        logits = network(batch.clone().requires_grad_())  # (B, classes)
        scores = logits.gather(1, targets[:, None])  # (B, 1), before the softmax
        torch.autograd.backward(scores.sum(), inputs=[captured["activations"]])
    finally:
        handle.remove()

    activations, gradients = captured["activations"].detach(), captured["gradients"]
    weights = gradients.mean((2, 3), keepdim=True)  # (B, C, 1, 1): how much each map matters
    maps = (weights * activations).sum(1)  # (B, h, w): where they speak for the class, or against
    maps = stretch(maps.relu(), epsilon=1e-7)  # only for it; ε as in pytorch-grad-cam
    size = (batch.shape[2], batch.shape[3])
    maps = functional.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)
    return stretch(maps[:, 0], epsilon=1e-7)  # (B, H, W)


def saliency(network: nn.Module, batch: Tensor, targets: Tensor) -> Tensor:
    """Measure how much each pixel changes the score: its largest absolute gradient.

    Simonyan et al., Deep Inside Convolutional Networks, 2013, section 3.

    Args:
        network: A classifier in evaluation mode.
        batch: (B, 3, H, W) floats.
        targets: (B,) int64, the class to explain of each picture.

    Returns:
        (B, H, W) in [0, 1].
    """
    pixels = batch.clone().requires_grad_()
    scores = network(pixels).gather(1, targets[:, None])  # (B, 1)
    (gradients,) = torch.autograd.grad(scores.sum(), pixels)  # (B, 3, H, W)
    return stretch(gradients.abs().amax(1))


def stretch(maps: Tensor, epsilon: float = 1e-30) -> Tensor:
    """Bring each map (B, h, w) to [0, 1]; ε keeps a map of zeros from becoming 0 / 0."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low + epsilon)


def prepare(picture: Image.Image) -> Tensor:
    """Crop a picture to (1, 3, 224, 224) in [0, 1], as ImageNet's networks expect it."""
    side = min(picture.size)
    pixels = torchvision.transforms.functional.to_tensor(picture.convert("RGB"))
    pixels = torchvision.transforms.functional.center_crop(pixels, [side, side])[None]
    return functional.interpolate(pixels, (224, 224), mode="bilinear", antialias=True).clamp(0, 1)


def blend(pixels: Tensor, heatmap: Tensor) -> Image.Image:
    """Lay a heatmap (H, W), from black over red and yellow to white, on pixels (3, H, W)."""
    colours = torch.stack([3 * heatmap, 3 * heatmap - 1, 3 * heatmap - 2]).clamp(0, 1)
    blended = (pixels + colours) / 2
    return torchvision.transforms.functional.to_pil_image(blended)


def load(name: str, weights: str) -> nn.Module:
    """Build a classifier of torchvision; ``weights`` is "default", "none" or a file's path."""
    try:
        network = torchvision.models.get_model(
            name, weights="DEFAULT" if weights == "default" else None
        )
    except URLError as error:
        sys.exit(
            f"{name}'s weights are not on this disk and cannot be downloaded "
            f"({error.reason}); give a file: --weights FILE, or random ones: --weights none"
        )
    if weights not in ("default", "none"):
        network.load_state_dict(torch.load(weights, weights_only=True))
    return network.eval()


def main() -> None:
    """Explain the class that scores highest, and write both maps beside the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("--network", default="resnet18", help="a classifier of torchvision")
    parser.add_argument("--layer", default="layer4", help="the last one with feature maps")
    parser.add_argument("--weights", default="default", help="default, none, or a .pth file")
    options = parser.parse_args()

    network = load(options.network, options.weights)
    pixels = prepare(Image.open(options.picture))  # (1, 3, 224, 224)
    batch = torchvision.transforms.functional.normalize(pixels, MEAN, DEVIATION)
    with torch.no_grad():
        targets = network(batch).argmax(1)  # (1,)
    maps = {
        "gradcam": gradcam(network, options.layer, batch, targets),
        "saliency": saliency(network, batch, targets),
    }
    for method, heatmaps in maps.items():
        path = options.picture.with_name(f"{options.picture.stem}-{method}.png")
        blend(pixels[0], heatmaps[0]).save(path)
        print(f"class {targets.item()}: {path}")


if __name__ == "__main__":
    main()
