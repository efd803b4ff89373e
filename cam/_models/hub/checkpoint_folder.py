"""Read a folder as ``save_pretrained`` of transformers writes it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from cam._models.checkpoint import read_state_dict
from cam.errors import CheckpointError, ModelError

CONFIG = "config.json"
# In the order in which transformers looks for them.
WHOLE = ("model.safetensors", "pytorch_model.bin")
# What a tokenizer knows its words from.
VOCABULARIES = (
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
INDICES = tuple(f"{name}.index.json" for name in WHOLE)


@dataclass(frozen=True)
class CheckpointFolder:
    """A folder with a configuration, perhaps weights and what prepares the input.

    Attributes:
        name: What messages call it.
        path: Where it lies.
    """

    name: str
    path: Path

    def read_config(self) -> dict[str, Any]:
        """Read the configuration as it stands there.

        Raises:
            ModelError: There is none, or it is no JSON object.
        """
        try:
            config = json.loads((self.path / CONFIG).read_text("utf-8"))
        except OSError:
            raise ModelError(
                f"{self.name} has no {CONFIG}, so it is no checkpoint of transformers; give a "
                "folder that save_pretrained wrote"
            ) from None
        except (ValueError, RecursionError) as error:
            raise ModelError(f"the {CONFIG} of {self.name} is no JSON: {error}") from None
        if not isinstance(config, dict):
            raise ModelError(f"the {CONFIG} of {self.name} holds no configuration")
        return config

    def find_weights(self) -> list[Path]:
        """List the files of weights, one or several shards; none where one is missing."""
        for name in (*WHOLE, *INDICES):
            if (self.path / name).is_file():
                names = read_shards(self.path / name) if name in INDICES else [name]
                files = [self.path / shard for shard in names]
                return files if all(file.is_file() for file in files) else []
        return []

    def read_weights(self) -> dict[str, Tensor]:
        """Read the weights as tensors only.

        Raises:
            CheckpointError: There are none, or they are unsafe or damaged.
        """
        files = self.find_weights()
        if not files:
            raise CheckpointError(
                f"{self.name} has no weights that are tensors only; {' or '.join(WHOLE)} are read, "
                "also in shards"
            )
        state: dict[str, Tensor] = {}
        for file in files:
            state |= read_state_dict(file)
        return state


def read_shards(index: Path) -> list[str]:
    """List the files that an index of shards names.

    Raises:
        CheckpointError: It is no such index, or it names files elsewhere.
    """
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        names = []
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise CheckpointError(f"{index.name} names no files of weights beside it")
    return names
