"""Where a model's tokenizer is on this machine: prompts are made here."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from bench.config.topology import Model
from bench.environments.cpu_engine.models import model_folder
from bench.errors import UserError

FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def tokenizer_folder(model: Model, cache: Path) -> Path:
    """A folder with tokenizer.json and the chat template.

    For a model of the hub these are downloaded, with HF_TOKEN of this machine; raises UserError
    where the hub refuses or cannot be reached.
    """
    if model.hub is None:
        return model_folder(model, cache)
    try:
        return Path(snapshot_download(model.hub, allow_patterns=list(FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        told = " ".join(str(error).split())[:300]
        raise UserError(
            f"the tokenizer of {model.hub} cannot be had, which prompts are made with: {told}; "
            "set HF_TOKEN here as well"
        ) from None
