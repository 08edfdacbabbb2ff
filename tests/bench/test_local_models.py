"""Model folders: made once, repeatable, and with tokens that always show as text."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import jinja2
import pytest
from tokenizers import Tokenizer

from bench.config.topology import Architecture, Model
from bench.environments.cpu_engine.models import model_folder, weight_bytes, write_tiny_model
from bench.errors import UserError

ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello."},
    {"role": "assistant", "content": "Hi."},
    {"role": "user", "content": "Bye."},
]
RENDERED = {
    "llama": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHello.<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHi.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nBye.<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "qwen2": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello.<|im_end|>\n"
        "<|im_start|>assistant\nHi.<|im_end|>\n<|im_start|>user\nBye.<|im_end|>\n"
        "<|im_start|>assistant\n"
    ),
    "mistral": "<s>[INST] Be brief.[/INST][INST] Hello.[/INST] Hi.</s>[INST] Bye.[/INST]",
}


def tiny(architecture: Architecture) -> Model:
    return Model("tiny", architecture, None, None, 2)


def own(folder: Path) -> Model:
    return Model("mine", None, folder, None, 2)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> Architecture:
    chosen: Architecture = request.param
    return chosen


@pytest.fixture(scope="module")
def folder(architecture: Architecture, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tiny(architecture), tmp_path_factory.mktemp("cache"))


def test_a_tiny_model_in_an_image_is_the_same_and_may_be_read_by_any_user(
    architecture: Architecture, folder: Path, tmp_path: Path
) -> None:
    write_tiny_model(architecture, tmp_path / "models" / architecture)
    made = tmp_path / "models" / architecture
    assert {file.name: file.read_text() for file in made.iterdir()} == {
        file.name: file.read_text() for file in folder.iterdir()
    }
    assert made.stat().st_mode & 0o055 == 0o055
    assert all(file.stat().st_mode & 0o044 == 0o044 for file in made.iterdir())


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def test_every_token_shows_as_text_even_when_special_tokens_are_left_out(
    tokenizer: Tokenizer,
) -> None:
    for token in range(tokenizer.get_vocab_size()):
        text = tokenizer.decode([token], skip_special_tokens=True)
        assert text
        assert text.isascii()
        assert text.replace("\n", " ").isprintable()


def test_the_model_has_an_output_for_every_token_and_no_more(
    folder: Path, tokenizer: Tokenizer
) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert config["vocab_size"] == tokenizer.get_vocab_size()
    assert config["max_position_embeddings"] == 4096


def test_ascii_text_survives_encoding(tokenizer: Tokenizer) -> None:
    text = "".join(map(chr, range(0x20, 0x7F))) + "\n\nPlain text, 2 lines.\n"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_chats_are_written_as_the_family_does(
    architecture: Architecture, folder: Path, tokenizer: Tokenizer
) -> None:
    template = jinja2.Template((folder / "chat_template.jinja").read_text())
    text = template.render(messages=CHAT, add_generation_prompt=True)
    assert text == RENDERED[architecture]
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_answers_end_with_a_token_that_the_chat_template_writes(
    architecture: Architecture, folder: Path, tokenizer: Tokenizer
) -> None:
    end = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    assert f"Hi.{tokenizer.id_to_token(end)}" in RENDERED[architecture]


def test_the_same_files_come_out_in_every_cache(
    architecture: Architecture, folder: Path, tmp_path: Path
) -> None:
    again = model_folder(tiny(architecture), tmp_path)
    assert again.name == folder.name
    for file in folder.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes()


def test_several_runs_at_once_make_one_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: model_folder(tiny("llama"), tmp_path), range(4)))
    assert list((tmp_path / "models").iterdir()) == list(folders)


def test_a_tiny_model_has_no_weight_files(folder: Path) -> None:
    assert weight_bytes(folder) == 0


def test_a_complete_folder_of_the_user_is_used_as_it_is(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "model-1.safetensors", "model-2.safetensors"):
        (tmp_path / name).write_bytes(b"1234")
    assert model_folder(own(tmp_path), tmp_path / "cache") == tmp_path
    assert weight_bytes(tmp_path) == 8


def test_what_a_folder_of_the_user_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"model mine: .* has no tokenizer.json, \*.safetensors"):
        model_folder(own(tmp_path), tmp_path / "cache")


def test_a_folder_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere is not a folder"):
        model_folder(own(tmp_path / "nowhere"), tmp_path / "cache")
