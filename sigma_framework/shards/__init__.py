"""SIGMA-SET shards: tar files with one fixed set of members per sample, their index and their manifest.

Members of sample KEY: ``KEY.target.jpg|png``, ``KEY.identities.png|jpg|webp`` (stacked along the height, like ``I^S``),
``KEY.masks.png`` (1-bit, stacked the same way), ``KEY.depth.png`` (16-bit) and ``KEY.json``.
"""

from sigma_framework.shards.document import ShardDocument
from sigma_framework.shards.encoding import (
    DecodedSample,
    EncodedSample,
    Encoding,
    decode_sample,
    encode_record,
    plain_box,
)
from sigma_framework.shards.inspection import SetReport, check_set
from sigma_framework.shards.layout import FORMAT_VERSION, INDEX_SUFFIX, MANIFEST
from sigma_framework.shards.reader import ShardSet
from sigma_framework.shards.writer import ShardEntry, write_manifest, write_shard

__all__ = [
    "FORMAT_VERSION",
    "INDEX_SUFFIX",
    "MANIFEST",
    "DecodedSample",
    "EncodedSample",
    "Encoding",
    "SetReport",
    "ShardDocument",
    "ShardEntry",
    "ShardSet",
    "check_set",
    "decode_sample",
    "encode_record",
    "plain_box",
    "write_manifest",
    "write_shard",
]
