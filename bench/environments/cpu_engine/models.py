"""Model folders: tiny models, made at first use, and a user's own, checked.

`python -m bench.environments.cpu_engine.models FOLDER` makes all tiny models, one folder for
each; the engine's image is built with it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from bench.config.topology import Architecture, Model
from bench.errors import UserError

CORPUS = Path(__file__).with_name("corpus.txt")
FAMILIES = Path(__file__).with_name("families.yaml")
VOCABULARY = 2048
# Every token is text of its own. With all 256 bytes in the vocabulary, random weights
# would keep producing halves of characters, which a server holds back as empty chunks.
ALPHABET = [*(chr(code) for code in range(0x21, 0x7F)), "Ġ", "Ċ"]  # byte-level: space, newline


@dataclass(frozen=True, slots=True)
class Family:
    """What differs from one architecture to another: an entry of families.yaml."""

    class_name: str
    model_type: str
    config: Mapping[str, Any]
    special_tokens: Sequence[str]
    bos: str
    eos: str
    chat_template: str


def model_folder(model: Model, cache: Path) -> Path:
    """The folder of `model`, made under `cache` if it is a tiny one not made yet.

    Raises UserError if the user's own folder lacks something an engine needs.
    """
    if model.path is not None:
        return _checked(model.name, model.path)
    assert model.architecture is not None
    return made_folder(model.architecture, cache)


def made_folder(
    architecture: Architecture, cache: Path, sizes: Mapping[str, Any] | None = None
) -> Path:
    """The folder of a model without weights, made under `cache` if it is not there yet.

    It is a tiny one but for `sizes`, entries of its config.json.
    """
    files = _files(architecture, sizes or {})
    digest = hashlib.sha256("".join(files.values()).encode()).hexdigest()[:12]
    folder = cache / "models" / f"{architecture}-{digest}"
    if not folder.is_dir():
        _write(folder, files)
    return folder


def write_tiny_model(architecture: Architecture, folder: Path) -> None:
    """Make the tiny model of an architecture in `folder`, which must not exist."""
    _write(folder, _files(architecture, {}))


def weight_bytes(folder: Path) -> int:
    """Size of the weights in a folder; 0 for a tiny model, whose weights are made in memory."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _checked(name: str, folder: Path) -> Path:
    missing = [file for file in ("config.json", "tokenizer.json") if not (folder / file).is_file()]
    if not weight_bytes(folder):
        missing.append("*.safetensors")
    if missing:
        seen = "has no" if folder.is_dir() else "is not a folder, so it has no"
        raise UserError(
            f"model {name}: {folder} {seen} {', '.join(missing)}; "
            "give path: a folder in Hugging Face layout, or architecture: for a tiny model"
        )
    return folder


def _files(architecture: Architecture, sizes: Mapping[str, Any]) -> Mapping[str, str]:
    known = yaml.safe_load(FAMILIES.read_text(encoding="utf-8"))
    common, family = known["common"], Family(**known[architecture])
    tokenizer = _train_tokenizer(family.special_tokens, sizes.get("vocab_size", VOCABULARY))
    token_ids = {
        "bos_token_id": tokenizer.token_to_id(family.bos),
        "eos_token_id": tokenizer.token_to_id(family.eos),
    }
    config = {
        "architectures": [family.class_name],
        "model_type": family.model_type,
        "vocab_size": tokenizer.get_vocab_size(),
        **common["config"],
        **token_ids,
        **family.config,
        **sizes,
    }
    longest = {"model_max_length": config["max_position_embeddings"]}
    return {
        "config.json": _json(config),
        "generation_config.json": _json(token_ids),
        "tokenizer.json": tokenizer.to_str(pretty=True),
        "tokenizer_config.json": _json({**common["tokenizer_config"], **longest}),
        "chat_template.jinja": family.chat_template,
    }


def _train_tokenizer(special_tokens: Sequence[str], vocabulary: int) -> Tokenizer:
    """A tokenizer of the corpus. Beyond `VOCABULARY` tokens, the rest are texts that it never uses.

    A random model produces these like any other.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(special_tokens),
        initial_alphabet=ALPHABET,
        show_progress=False,
    )
    tokenizer.train_from_iterator([CORPUS.read_text(encoding="ascii")], trainer)
    if vocabulary > VOCABULARY:
        spelled = json.loads(tokenizer.to_str())
        known = spelled["model"]["vocab"]
        unused = range(len(known), vocabulary - len(special_tokens))
        known.update({f"Ġ#{number}": number for number in unused})
        tokenizer = Tokenizer.from_str(json.dumps(spelled))
    # Not marked as special: a random model produces them like any other token, and a
    # server leaves special ones out of its answer.
    tokenizer.add_tokens(
        [AddedToken(token, special=False, normalized=False) for token in special_tokens]
    )
    return tokenizer


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"


def _write(folder: Path, files: Mapping[str, str]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".draft-"))
    draft.chmod(0o755)  # in an image it is not its user who makes it
    for name, text in files.items():
        (draft / name).write_text(text, encoding="utf-8")
    try:
        draft.rename(folder)
    except OSError:
        # Another process has just made the same folder; anything else is an error.
        shutil.rmtree(draft)
        if not folder.is_dir():
            raise


if __name__ == "__main__":
    for architecture in get_args(Architecture):
        write_tiny_model(architecture, Path(sys.argv[1]) / architecture)
