"""Small random models of the real classes, saved as the hub's folders are, and a server of chat completions."""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sigma_annotators.learned import language_models
from sigma_annotators.learned.weights import quiet_libraries
from sigma_backbones.pocket_training.architecture import build_pipeline
from sigma_backbones.pocket_training.options import PocketSizes

SIZES = PocketSizes(
    heads=2, axes=(4, 6, 6), double_blocks=1, single_blocks=1, text_width=16, pooled_width=16, text_layers=1,
    text_heads=2, vae_width=8,
)  # fmt: skip
"""Of a pipeline with FLUX.1 Kontext's classes."""
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", "a", "red", "blue", "block", "cube", "cup", "thing"]
CHAT = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% if enable_thinking %}<think>{% endif %}{% endif %}"
)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``detector``, ``masks``, ``metric``, ``relative``, ``language``, ``kontext``."""
    root = tmp_path_factory.mktemp("models")
    with torch.random.fork_rng(), quiet_libraries():
        torch.manual_seed(0)
        save_detector(root / "detector")
        save_masks(root / "masks")
        for kind in ("metric", "relative"):
            save_depth(root / kind, kind)
        save_language(root / "language")
        build_pipeline(0, SIZES).save_pretrained(root / "kontext")
    return root


def save_detector(folder: Path) -> None:
    from transformers import (
        BertConfig,
        BertTokenizerFast,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessorPil,
        SwinConfig,
    )

    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    size = {"shortest_edge": 128, "longest_edge": 192}
    GroundingDinoImageProcessorPil(size=size).save_pretrained(folder)
    text = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    backbone = SwinConfig(
        image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = GroundingDinoConfig(
        backbone_config=backbone, text_config=text, d_model=32, encoder_layers=1, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=12,
        encoder_n_points=2, decoder_n_points=2,
    )  # fmt: skip
    GroundingDinoForObjectDetection(config).save_pretrained(folder)


def save_masks(folder: Path) -> None:
    from transformers import (
        SamConfig,
        SamImageProcessorPil,
        SamMaskDecoderConfig,
        SamModel,
        SamPromptEncoderConfig,
        SamVisionConfig,
    )

    edge = 64
    vision = SamVisionConfig(
        hidden_size=16, output_channels=16, num_hidden_layers=1, num_attention_heads=2, image_size=edge, patch_size=8,
        mlp_dim=16, window_size=2, global_attn_indexes=[0], num_pos_feats=8,
    )  # fmt: skip
    prompts = SamPromptEncoderConfig(hidden_size=16, image_size=edge, patch_size=8, mask_input_channels=4)
    decoder = SamMaskDecoderConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, mlp_dim=16, iou_head_hidden_dim=16
    )
    model = SamModel(SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder))
    model.save_pretrained(folder)
    SamImageProcessorPil(
        size={"longest_edge": edge}, pad_size={"height": edge, "width": edge}, mask_size={"longest_edge": 16}
    ).save_pretrained(folder)


def save_depth(folder: Path, kind: str) -> None:
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessorPil

    backbone = Dinov2Config(
        image_size=56, patch_size=14, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, mlp_ratio=1,
        out_features=["stage1", "stage2", "stage3", "stage4"], reshape_hidden_states=False, apply_layernorm=True,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=16, neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8,
        head_hidden_size=8, depth_estimation_type=kind, max_depth=20 if kind == "metric" else 1,
    )  # fmt: skip
    model = DepthAnythingForDepthEstimation(config)
    for weight in model.parameters():  # as it is made, its last layers answer the same everywhere
        if weight.ndim > 1:
            weight.data.normal_(std=0.15)
    model.save_pretrained(folder)
    DPTImageProcessorPil(
        size={"height": 56, "width": 56}, keep_aspect_ratio=True, ensure_multiple_of=14
    ).save_pretrained(folder)


def save_language(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    letters = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab={**letters, "<end>": len(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>")
    fast.chat_template = CHAT
    fast.save_pretrained(folder)
    config = Qwen3Config(
        vocab_size=len(letters) + 1, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=4096, eos_token_id=len(letters),
        pad_token_id=len(letters),
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(folder)


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    """A red and a blue block on grey."""
    picture = np.full((48, 64, 3), 150, np.uint8)
    picture[8:30, 6:24] = (200, 30, 30)
    picture[14:40, 34:56] = (35, 90, 225)
    return picture


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub library's own switch; it reads the environment at import."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


class Server(http.server.ThreadingHTTPServer):
    """Chat completions as OpenAI's API gives them; ``script`` turns a request into a status and a text."""

    script: Callable[[dict[str, Any]], tuple[int, Any]]
    seen: list[tuple[dict[str, Any], str | None]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((body, self.headers.get("Authorization")))
        status, answer = self.server.script(body) if self.path == "/v1/chat/completions" else (404, "")
        content = answer if isinstance(answer, bytes) else json.dumps(
            {"choices": [{"message": {"role": "assistant", "content": answer}}]}
        ).encode()  # fmt: skip
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None: ...


def write_scene(body: dict[str, Any]) -> tuple[int, str]:
    """As a good model would: what it is asked for, another scene for another seed."""
    theme, count = re.findall(r"Theme: (.*)\. Number of subjects: (\d+)", body["messages"][1]["content"])[0]
    captions = [f"a thing of kind {k}" for k in range(int(count))]
    background = f"{theme} seen {body['seed']} times"
    answer = {"full": f"{background} with {', '.join(captions)}", "background": background, "subjects": captions}
    return 200, json.dumps(answer)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(language_models, "_FIRST_WAIT", 0.01)
    found = Server(("127.0.0.1", 0), Handler)
    found.script, found.seen = write_scene, []
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()
