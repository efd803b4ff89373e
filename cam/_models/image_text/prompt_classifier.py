"""Compare images with prompts, which are the classes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cam._engine.evaluation_mode import attach
from cam.errors import ModelError

_LONGEST_QUOTED = 60
# Mean square of features without a direction.
_SMALLEST = 1e-24


class ImageTower(nn.Module):
    """The part of a network that encodes images, up to what is compared with text.

    Args:
        network: The whole one; whatever does not run for an image is removed from it.
        encode: From network and (B, 3, H, W) to features (B, D); a function of a module.
        pixels: (1, 3, H, W), any image.
    """

    def __init__(
        self, network: nn.Module, encode: Callable[[Any, Tensor], Tensor], pixels: Tensor
    ) -> None:
        super().__init__()
        self.network = network
        self._encode = encode
        ran: set[str] = set()
        hooks = [
            child.register_forward_hook(lambda *_, name=name: ran.add(name))
            for name, child in network.named_children()
        ]
        with torch.no_grad(), attach(hooks):
            self(pixels)
        for name, _ in list(network.named_children()):
            if name not in ran:
                delattr(network, name)

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode (B, 3, H, W) as (B, D)."""
        return self._encode(self.network, pixels)


class PromptClassifier(nn.Module):
    """The scaled likeness of an image to each prompt, from the image's side alone.

    The text was encoded once, without a gradient: CLIP's logits (Radford et al., ICML 2021,
    figure 3), and SigLIP's with their bias (Zhai et al., ICCV 2023, algorithm 1).

    Args:
        image: From (B, 3, H, W) to features (B, D).
        text: (P, D), the features of the prompts.
        scale: What the cosine is multiplied by.
        bias: What is added to it then.
    """

    def __init__(self, image: nn.Module, text: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.image = image
        text = functional.normalize(text.detach(), dim=1)
        bias = scale.new_zeros(1) if bias is None else bias
        self.classes = nn.Linear(text.shape[1], len(text), device=text.device, dtype=text.dtype)
        # A root mean square is the length by the root of D.
        self.classes.weight.data = text * scale.detach() / text.shape[1] ** 0.5
        self.classes.bias.data = bias.detach().reshape(1).expand(len(text)).clone()
        self.classes.requires_grad_(False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits, (B, P)."""
        features = self.image(pixels)
        # As a norm that relevance propagation knows: a length only scales.
        direction = functional.rms_norm(features, features.shape[1:], eps=_SMALLEST)
        logits: Tensor = self.classes(direction)
        return logits


def has_logits(classifier: PromptClassifier, pixels: Tensor, logits: Tensor) -> bool:
    """Test whether a classifier has the logits (B, P) that its network had when it was whole."""
    with torch.no_grad():
        values = classifier(pixels)
    return values.shape == logits.shape and torch.allclose(values, logits, 1e-3, 1e-3)


def compares_otherwise(name: str, network: nn.Module) -> ModelError:
    """State in one sentence that a network compares images and text in an unknown way."""
    return ModelError(
        f"{name} is a {type(network).__name__}, which compares images and text in a way that is "
        "not known here; CLIP, SigLIP and their kin can be loaded"
    )


def check_prompts(prompts: Sequence[str] | None, name: str) -> tuple[str, ...]:
    """Check the prompts for a model that needs them.

    Raises:
        ModelError: There are none, or one of them is empty, no text, or there twice.
    """
    if prompts is None or (not isinstance(prompts, str) and not len(prompts)):
        raise ModelError(
            f"{name} compares an image with texts, which are its classes; give some, such as "
            "prompts=['a photo of a cat', 'a photo of a dog'], or --prompt on the command line"
        )
    if isinstance(prompts, str) or not all(isinstance(prompt, str) for prompt in prompts):
        raise ModelError("prompts is a list of texts, one a class")
    for number, prompt in enumerate(prompts):
        if not prompt.strip():
            raise ModelError(f"prompt {number + 1} is empty; write what the image may show")
        if prompt in prompts[:number]:
            raise ModelError(f"the prompt {quote(prompt)} is there twice; each is a class")
    return tuple(prompts)


def no_text_tower(name: str) -> ModelError:
    """State in one sentence that prompts are of no use to a model."""
    return ModelError(
        f"{name} has no text tower, so prompts mean nothing to it; leave them out, or load a model "
        "such as hf/openai/clip-vit-base-patch32"
    )


def check_length(prompt: str, tokens: int, most: int, name: str) -> None:
    """Refuse a prompt that the model would cut off.

    Raises:
        ModelError: It has too many tokens.
    """
    if tokens > most:
        raise ModelError(
            f"the prompt {quote(prompt)} has {tokens} tokens, and {name} reads {most} at most; "
            "shorten it"
        )


def quote(prompt: str) -> str:
    """Quote a prompt, or the beginning of a long one."""
    return repr(prompt if len(prompt) <= _LONGEST_QUOTED else f"{prompt[:_LONGEST_QUOTED]}…")
