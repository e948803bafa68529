"""Tokenizers of ``pocket``: every word of the toy world is one token, and every other text is spelt in bytes.

Both are byte-pair encodings over bytes, merged from a fixed word list until each word is whole, so that building them
twice gives the same files and no text is ever unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

TEXT_LENGTH = 48
"""Tokens of a prompt, for both tokenizers: the longest toy prompts have about 45. It belongs to the checkpoint."""
WORD_END = "</w>"
"""How CLIP marks the last letter of a word."""


def read_words() -> tuple[str, ...]:
    """The shipped word list, one word a line."""
    return tuple((Path(__file__).parent / "words.txt").read_text(encoding="utf-8").split())


def build_clip_tokenizer(words: Sequence[str]) -> CLIPTokenizer:
    """Lower-case tokenizer for the pooled text; ids: start 0, end 1 (not 2, which CLIP reads in its own old way)."""
    splitter = CLIPTokenizer().backend_tokenizer
    pieces = _pieces(splitter, (word.lower() for word in words))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    spellings = {piece: (*piece[:-1], piece[-1] + WORD_END) for piece in pieces}
    start = ["<|startoftext|>", "<|endoftext|>", *alphabet, *(letter + WORD_END for letter in alphabet)]
    vocabulary, merges = _merge_words(spellings, start)
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TEXT_LENGTH)


def build_t5_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """Case-sensitive tokenizer for the token sequence; ids: padding 0, end 1.

    Not the class ``T5TokenizerFast``: it rebuilds itself as a unigram model that does not know bytes.
    """
    level = pre_tokenizers.ByteLevel(add_prefix_space=True)
    splitter = Tokenizer(models.BPE())
    splitter.pre_tokenizer = level
    pieces = _pieces(splitter, words)
    start = ["<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary, merges = _merge_words({piece: tuple(piece) for piece in pieces}, start)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>"))
    tokenizer.pre_tokenizer = level
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=TEXT_LENGTH,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
    )


def _pieces(splitter: Tokenizer, words: Iterable[str]) -> list[str]:
    """What the splitter makes of the words, each once, in a fixed order."""
    return sorted({piece for word in words for piece, _ in splitter.pre_tokenizer.pre_tokenize_str(word)})


def _merge_words(
    spellings: dict[str, tuple[str, ...]], start: Sequence[str]
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges: the most frequent neighbours first (then by name), until each word is one token."""
    vocabulary = {token: index for index, token in enumerate(start)}
    merges: list[tuple[str, str]] = []
    spelt = [list(spelling) for spelling in spellings.values()]
    while True:
        pairs = Counter(pair for symbols in spelt for pair in pairwise(symbols))
        if not pairs:
            return vocabulary, merges
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        vocabulary.setdefault("".join(best), len(vocabulary))
        spelt = [_merged(symbols, best) for symbols in spelt]


def _merged(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    """The symbols with each occurrence of the pair joined, from the left."""
    joined: list[str] = []
    for symbol in symbols:
        if joined and (joined[-1], symbol) == pair:
            joined[-1] += symbol
        else:
            joined.append(symbol)
    return joined
