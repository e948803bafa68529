"""Two ways to ask a language model: in this process by transformers, or an OpenAI-compatible server."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sigma_annotators.learned.config import PromptWriterConfig
from sigma_annotators.learned.weights import place_of, read_weights, told_name
from sigma_framework import RunError

Message = Mapping[str, Any]
"""``role`` and ``content``: a text, or for models that read pictures a list of parts."""
_TRIES = 4
"""Of one request to a server that is busy."""
_BUSY = frozenset({408, 409, 429, 500, 502, 503, 504})
_FIRST_WAIT = 0.5
"""Seconds before a busy server is asked again; doubled every time."""
_MOST_BYTES = 4 * 2**20
"""Of a server's answer."""


class ServerOptions(Protocol):
    """What a server is asked with."""

    @property
    def server(self) -> str | None:
        """Address."""
        ...

    @property
    def weights(self) -> str:
        """The model's name there."""
        ...

    @property
    def key_variable(self) -> str | None:
        """Environment variable that holds the key."""
        ...

    @property
    def timeout(self) -> float:
        """Seconds for one answer."""
        ...

    @property
    def temperature(self) -> float:
        """Of sampling."""
        ...

    @property
    def top_p(self) -> float:
        """Of sampling."""
        ...

    @property
    def max_tokens(self) -> int:
        """Longest answer."""
        ...


def asked_again(opening: Sequence[Message], answer: str, told: str) -> list[Message]:
    """The conversation that goes on after an answer that cannot be used; answers before it are left out.

    Args:
        opening: how the conversation began.
        answer: the model's last one.
        told: what is wrong with it.
    """
    return [*opening, {"role": "assistant", "content": answer}, {"role": "user", "content": told}]


class LanguageModel(Protocol):
    """Answers a conversation; the same seed gives the same answer where the model allows."""

    name: str

    def answer(self, messages: Sequence[Message], seed: int) -> str:
        """The text of the next turn."""
        ...


class LocalModel:
    """A causal language model of transformers.

    Raises:
        WeightsError: cannot be read, or its tokenizer has no chat template.
    """

    def __init__(self, config: PromptWriterConfig) -> None:
        from sigma_framework import WeightsError

        self.config = config
        self._place, number = place_of("prompt_writer", config.device, config.dtype)

        def read(source: str, options: dict[str, Any]) -> tuple[Any, Any]:
            from transformers import AutoModelForCausalLM, AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(source, **options)
            return tokenizer, AutoModelForCausalLM.from_pretrained(source, dtype=number, **options)

        self._tokenizer, model = read_weights("prompt_writer: weights", config.weights, config.revision, read)
        if not self._tokenizer.chat_template:
            raise WeightsError(
                f"prompt_writer: weights: {config.weights} has no chat template; expected a model that was tuned to "
                "follow instructions"
            )
        self._model = model.to(self._place).eval()
        self.name = told_name(config.weights, model, config.revision)

    def answer(self, messages: Sequence[Message], seed: int) -> str:
        """Sampled; the global random state stays as it was."""
        import torch

        inputs = self._tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            add_generation_prompt=True,
            enable_thinking=False,  # templates without this switch ignore it
            return_tensors="pt",
            return_dict=True,
        ).to(self._place)
        length = inputs["input_ids"].shape[1]
        devices = [self._place] if self._place.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), torch.inference_mode():
            torch.manual_seed(seed)
            made = self._model.generate(
                **inputs,
                do_sample=True,
                temperature=self.config.temperature,
                top_p=self.config.top_p,
                max_new_tokens=self.config.max_tokens,
                pad_token_id=self._tokenizer.pad_token_id or self._tokenizer.eos_token_id,
            )
        return str(self._tokenizer.decode(made[0, length:], skip_special_tokens=True))


class ServerModel:
    """``POST {server}/chat/completions``, as OpenAI's API, vLLM, llama.cpp, Ollama and others speak it."""

    def __init__(self, config: ServerOptions, stage: str = "prompt_writer") -> None:
        self.config = config
        self.name = f"{config.weights} (server)"
        self._stage = stage

    def answer(self, messages: Sequence[Message], seed: int) -> str:
        """A busy server is asked again a few times.

        Raises:
            RunError: the server cannot be reached, refuses, or answers something else.
        """
        config = self.config
        body = {
            "model": config.weights,
            "messages": [dict(message) for message in messages],
            "temperature": config.temperature,
            "top_p": config.top_p,
            "max_tokens": config.max_tokens,
            "seed": seed % 2**31,
        }
        try:
            text = json.loads(self._post(json.dumps(body).encode()))["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise RunError(f"{self._stage}: server: {config.server} gave no chat completion") from error
        return "" if text is None else str(text)

    def _post(self, body: bytes) -> bytes:
        server = str(self.config.server).rstrip("/")
        headers = {"Content-Type": "application/json", **self._key()}
        request = urllib.request.Request(f"{server}/chat/completions", body, headers, method="POST")
        wait = _FIRST_WAIT
        for attempt in range(1, _TRIES + 1):
            try:
                with urllib.request.urlopen(request, timeout=self.config.timeout) as response:
                    content: bytes = response.read(_MOST_BYTES)
                    return content
            except urllib.error.HTTPError as error:
                reason = f"answered {error.code} {error.reason}"
                if error.code not in _BUSY:
                    raise RunError(f"{self._stage}: server: {server} {reason}") from error
            except OSError as error:  # URLError and timeouts are kinds of it
                reason = f"cannot be reached ({getattr(error, 'reason', error)})"
            if attempt < _TRIES:
                time.sleep(wait)
                wait *= 2
        raise RunError(f"{self._stage}: server: {server} {reason}, {_TRIES} times; start it, then run again to go on")

    def _key(self) -> dict[str, str]:
        name = self.config.key_variable
        if name is None:
            return {}
        if not os.environ.get(name):
            raise RunError(f"{self._stage}: key_variable: {name} is not set in the environment")
        return {"Authorization": f"Bearer {os.environ[name]}"}
