"""The model families that can be made here: configuration, special tokens, chat template.

Key names, special tokens and templates follow the published configurations of
Llama-3.1-8B-Instruct, Qwen2.5-7B-Instruct and Mistral-7B-Instruct-v0.3; only sizes differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.config.topology import Architecture


@dataclass(frozen=True, slots=True)
class Family:
    """What differs from one architecture to another.

    `config` holds the keys of config.json that other families lack or set otherwise.
    `special_tokens` get the last token numbers, in this order.
    """

    class_name: str
    model_type: str
    config: Mapping[str, Any]
    special_tokens: tuple[str, ...]
    bos: str
    eos: str
    chat_template: str


# As small as vLLM's kernels take them (heads of 32): a trial of seconds is to hold hundreds of
# requests, and the ratio of arms does not depend on how long a step takes.
SIZES: Mapping[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}

_LLAMA_TEMPLATE = """\
{{- '<|begin_of_text|>' }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

_QWEN_TEMPLATE = """\
{%- if messages[0]['role'] != 'system' %}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

_MISTRAL_TEMPLATE = """\
{{- '<s>' }}
{%- for message in messages %}
    {%- if message['role'] == 'assistant' %}
        {{- ' ' + message['content'] | trim + '</s>' }}
    {%- else %}
        {{- '[INST] ' + message['content'] + '[/INST]' }}
    {%- endif %}
{%- endfor %}
"""

FAMILIES: Mapping[Architecture, Family] = {
    "llama": Family(
        class_name="LlamaForCausalLM",
        model_type="llama",
        config={
            "attention_bias": False,
            "mlp_bias": False,
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
        },
        special_tokens=(
            "<|begin_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eot_id|>",
        ),
        bos="<|begin_of_text|>",
        eos="<|eot_id|>",
        chat_template=_LLAMA_TEMPLATE,
    ),
    "qwen2": Family(
        class_name="Qwen2ForCausalLM",
        model_type="qwen2",
        config={
            "max_window_layers": SIZES["num_hidden_layers"],
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
            "sliding_window": None,
            "use_sliding_window": False,
        },
        special_tokens=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        bos="<|endoftext|>",
        eos="<|im_end|>",
        chat_template=_QWEN_TEMPLATE,
    ),
    "mistral": Family(
        class_name="MistralForCausalLM",
        model_type="mistral",
        config={
            "head_dim": SIZES["hidden_size"] // SIZES["num_attention_heads"],
            "rms_norm_eps": 1e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
            "sliding_window": None,
        },
        special_tokens=("<s>", "</s>", "[INST]", "[/INST]"),
        bos="<s>",
        eos="</s>",
        chat_template=_MISTRAL_TEMPLATE,
    ),
}
