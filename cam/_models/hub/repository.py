"""Download a repository of Hugging Face's hub into its usual cache."""

from dataclasses import dataclass
from pathlib import Path

from cam._models.download import (
    Report,
    describe_failure,
    download_hub_file,
    refuse_if_unreachable,
)
from cam._models.hub.checkpoint_folder import (
    CONFIG,
    INDICES,
    VOCABULARIES,
    WHOLE,
    CheckpointFolder,
    read_shards,
)
from cam.errors import Cancelled, ModelError

# What prepares images and prompts; each repository has some of them.
_BESIDE = (
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "merges.txt",
    *VOCABULARIES,
)


@dataclass(frozen=True)
class Repository:
    """Where a model is published on the hub.

    Attributes:
        name: The model's, for messages.
        repository: The hub's name of it, ``owner/name`` or ``name``.
    """

    name: str
    repository: str

    @property
    def here(self) -> bool:
        """Whether configuration and weights are on this machine; uses no network."""
        folder = self.cached
        return folder is not None and bool(folder.find_weights())

    @property
    def folder(self) -> CheckpointFolder:
        """The downloaded files; :meth:`fetch` comes before."""
        folder = self.cached
        assert folder is not None
        return folder

    @property
    def cached(self) -> CheckpointFolder | None:
        """The files that are here; None before the configuration is."""
        import huggingface_hub

        config = huggingface_hub.try_to_load_from_cache(self.repository, CONFIG)
        return CheckpointFolder(self.name, Path(config).parent) if isinstance(config, str) else None

    def fetch(self, report: Report | None = None, weights: bool = True) -> None:
        """Download what is not here yet.

        Args:
            report: As of :meth:`cam._models.download.Published.fetch`; called for the weights.
            weights: Whether they are wanted, beside the configuration.

        Raises:
            ModelError: There is no such repository, or it cannot be had.
            Cancelled: ``report`` answered False.
        """
        if self.here or (not weights and self.cached is not None):
            return
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

        try:
            refuse_if_unreachable()
            # The configuration last but for the weights: where it is, the others are.
            for file in _BESIDE:
                download_hub_file(self.repository, file)
            if not download_hub_file(self.repository, CONFIG):
                raise ModelError(f"{self.name} has no {CONFIG}, so transformers cannot load it")
            if weights:
                self._fetch_weights(report)
        except (Cancelled, ModelError):
            raise
        except GatedRepoError:
            raise ModelError(
                f"{self.name} is only for those whom its owner lets in; ask at huggingface.co, log "
                "in with `hf auth login`, or give a folder on disk"
            ) from None
        except RepositoryNotFoundError:
            raise ModelError(
                f"there is no model {self.repository!r} at huggingface.co, and no folder of that "
                "name; check the name, or log in with `hf auth login` if it is private"
            ) from None
        # The hub's client has changed the library under it twice, and its errors with it.
        except Exception as error:  # noqa: BLE001
            raise ModelError(
                f"{self.name} could not be downloaded ({describe_failure(error)}); connect to the "
                "network, or give a folder on disk"
            ) from None

    def _fetch_weights(self, report: Report | None) -> None:
        for name in WHOLE:
            if download_hub_file(self.repository, name, report):
                return
        for name in INDICES:
            if download_hub_file(self.repository, name):
                for shard in read_shards(self.folder.path / name):
                    download_hub_file(self.repository, shard, report)
                return
        raise ModelError(
            f"{self.name} has no weights that are tensors only; {' or '.join(WHOLE)} are read, "
            "also in shards"
        )
