"""A small model whose greedy answers depend on its KV cache, with random weights in a file.

vLLM's own random weights (`--load-format dummy`) are so near to 0 that no token is more likely than
another, whatever is in the cache. So engines of such models cannot show that a cache is right.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.environments.cpu_engine.models import made_folder
from bench.store.files import write_whole

NAME = "greedy-model"
SIZES: Mapping[str, Any] = {
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 32768,
}
# Logits then differ by units, and attention counts as much as the token itself.
_SPREAD = 0.1


def greedy_model_folder(cache: Path) -> Path:
    """The folder of the model with its weights, made under `cache` if it is not there yet."""
    folder = made_folder("llama", cache, SIZES)
    file = folder / "model.safetensors"
    if not file.is_file():
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        write_whole(file, safetensors(dict(shapes(config))))
    return folder


def shapes(config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The name and shape of each tensor of a Llama."""
    hidden, inner, head_dim = (
        config[name] for name in ("hidden_size", "intermediate_size", "head_dim")
    )
    queries, keys = (
        config[name] * head_dim for name in ("num_attention_heads", "num_key_value_heads")
    )
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        yield f"{at}.input_layernorm.weight", (hidden,)
        yield f"{at}.post_attention_layernorm.weight", (hidden,)
        for name, rows in (("q", queries), ("k", keys), ("v", keys)):
            yield f"{at}.self_attn.{name}_proj.weight", (rows, hidden)
        yield f"{at}.self_attn.o_proj.weight", (hidden, queries)
        for name in ("gate", "up"):
            yield f"{at}.mlp.{name}_proj.weight", (inner, hidden)
        yield f"{at}.mlp.down_proj.weight", (hidden, inner)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (config["vocab_size"], hidden)


def safetensors(tensors: Mapping[str, tuple[int, ...]]) -> bytes:
    """A file of random tensors in bfloat16; those of one dimension, of norms, are ones."""
    generator = np.random.default_rng(0)
    header, data = dict[str, Any](), bytearray()
    for name, shape in tensors.items():
        drawn = generator.normal(0.0, _SPREAD, shape) if len(shape) > 1 else np.ones(shape)
        # bfloat16 is the upper half of float32.
        begin = len(data)
        data += (drawn.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
        offsets = [begin, len(data)]
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": offsets}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(data)
