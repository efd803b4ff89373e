"""Judge independently whether a layer lies on the picture.

Part of a photo is replaced, at five places in turn, and the layer's maps are read as the library
reads them. Sound: they change most where the photo did (at four places of five or more), they are
not the prediction itself, and the layer stands in the second half of a classifier.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

import cam
from cam.errors import CamError

# Top and left corners of the parts that are replaced, and their sides, in shares of the picture.
_CORNERS = ((0.06, 0.06), (0.06, 0.69), (0.375, 0.375), (0.69, 0.06), (0.69, 0.69))
_SIDE = 0.25
_LEAST_HITS = 0.8
_PREDICTION = 0.99


def awaken(module: nn.Module, batch: Tensor) -> None:
    """Give an untrained network weights through which a picture's signal does not fade.

    Many start so that it does: with weights near zero, or with statistics of no data.
    """
    for child in module.modules():
        weight = getattr(child, "weight", None)
        if isinstance(child, nn.Linear | nn.Conv2d) and isinstance(weight, nn.Parameter):
            nn.init.kaiming_normal_(weight, nonlinearity="linear")
        elif isinstance(weight, nn.Parameter) and not weight.any():
            nn.init.ones_(weight)
        for name, scale in child.named_parameters(recurse=False):
            # Layer scales start near zero.
            named = name not in ("bias", "logit_scale", "logit_bias")
            if named and scale.ndim <= 1 and scale.abs().max() < 0.2:
                nn.init.ones_(scale)
    norms = [
        child for child in module.modules() if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d)
    ]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    try:
        with torch.no_grad():
            module(batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()


def question(output: Tensor) -> Tensor:
    """Ask about one image's output of any kind: a class, a query, a segment, all detections."""
    if output.ndim == 1:
        return output[output.detach().argmax()]
    if output.ndim == 2 and output.shape[1] == 6:
        return output[:, 4].sum()
    if output.ndim == 2 and min(output.shape) > 110:
        return output.mean()
    if output.ndim == 2:
        return output[37, -2]
    return output[1].sum()


def judge(model: cam.Model | nn.Module, batch: Tensor, layer: str, half: bool) -> str:
    """Say why a layer is no sound place for a map of the picture; an empty text where it is.

    Args:
        model: It, or its network.
        batch: (2, 3, H, W), two photos.
        layer: That is judged.
        half: Whether it must stand in the second half of the network.
    """
    module = model.module if isinstance(model, cam.Model) else model
    before = _read(model, batch, layer)
    if share := _share_behind(module, batch, layer) if half else 0:
        return f"{share:.0%} of the network's weights run behind {layer}"
    if _is_prediction(model, batch, layer):
        return f"the map at {layer} is the prediction itself"
    height, width = batch.shape[-2:]
    changes, masks = [], []
    for down, across in _CORNERS:
        rows = slice(int(down * height), int((down + _SIDE) * height))
        columns = slice(int(across * width), int((across + _SIDE) * width))
        changed = batch.clone()
        changed[:, :, rows, columns] = batch.flip(0)[:, :, rows, columns] + 1
        changes.append((_read(model, changed, layer) - before).abs().mean((0, 1)))  # (h, w)
        mask = torch.zeros(1, 1, height, width)
        mask[..., rows, columns] = 1
        under = functional.adaptive_max_pool2d(mask, changes[-1].shape)[0]
        masks.append(functional.max_pool2d(under, 3, 1, 1)[0].flatten() > 0)
    # Beside how much the cell changes at all: some change much whatever happens.
    usual = torch.stack(changes).mean(0) + 1e-12
    hits = sum(
        bool(near[(change / usual).argmax()]) for near, change in zip(masks, changes, strict=True)
    )
    if hits < _LEAST_HITS * len(_CORNERS):
        return f"{layer} follows the picture at {hits} of {len(_CORNERS)} places"
    return ""


def _read(model: cam.Model | nn.Module, batch: Tensor, layer: str) -> Tensor:
    """Return the layer's maps (B, C, h, w), as explanations read them."""
    return cam.anatomy(model, batch, question, layer).activations.float()


def _share_behind(module: nn.Module, batch: Tensor, layer: str) -> float:
    """Return the share of modules with weights that run behind a layer, if more than half."""
    order: list[nn.Module] = []
    target = module.get_submodule(layer)
    hooks = [
        child.register_forward_hook(lambda child, *_: order.append(child))
        for child in module.modules()
        if child is target or list(child.parameters(recurse=False))
    ]
    with torch.no_grad():
        module(batch)
    for hook in hooks:
        hook.remove()
    last = max(index for index, child in enumerate(order) if child is target)
    share = 1 - last / len(order)
    return share if share > 0.5 else 0.0


def _is_prediction(model: cam.Model | nn.Module, batch: Tensor, layer: str) -> bool:
    """Test whether a segmenter's map at a layer is its own output for that class."""
    result = cam.attribute(model, batch, "hirescam", question, layer)["hirescam"]
    logits = result.logits
    if logits.ndim != 4:
        return False
    size = (result.raw.shape[-2], result.raw.shape[-1])
    predicted = functional.adaptive_avg_pool2d(logits[:, 1:2], size)[:, 0]
    pair = torch.stack([predicted.flatten(), result.raw.flatten()]).double()
    return bool(torch.corrcoef(pair)[0, 1] > _PREDICTION)


def names_candidates(module: nn.Module, error: CamError) -> bool:
    """Test whether an error names layers of the network that could be taken instead."""
    return isinstance(error, cam.LayerError) and any(
        f"'{name}'" in str(error) for name, _ in module.named_modules() if name
    )
