"""ModelSpec of a convolutional text classifier, from GGUF metadata.

GGUF has no words for one: `text_cnn.convolution.taps` and `text_cnn.convolution.ranks` are miaotui's own, the other
keys are named as other architectures' are.
"""

from __future__ import annotations

from miaotui.errors import ModelFileError
from miaotui.formats.convolutions import MAX_CONVOLUTIONS, MAX_LABELS, Convolutions
from miaotui.formats.gguf_values import StringArray
from miaotui.formats.gguf_write import StandardValue, encode_as_converted
from miaotui.formats.spec import ModelSpec, RopeScaling
from miaotui.formats.spec_fields import Fields

MAX_CONTEXT = 8192

TAPS_KEY = "text_cnn.convolution.taps"
RANKS_KEY = "text_cnn.convolution.ranks"
LABELS_KEY = "text_cnn.classifier.output_labels"


def spec_from_text_cnn(fields: Fields, name: str, vocab_size: int) -> ModelSpec:
    """The spec of a text classifier; what it has not, as attention, is filled in with ones.

    Raises ModelFileError for missing, mistyped or contradictory metadata.
    """
    taps = _integers(fields, TAPS_KEY)
    ranks = _integers(fields, RANKS_KEY) if RANKS_KEY in fields else (0,) * len(taps)
    convolutions = Convolutions(taps, ranks, _labels(fields))
    return ModelSpec(
        architecture="text_cnn",
        name=name,
        source="gguf",
        vocab_size=vocab_size,
        hidden_size=fields.integer("text_cnn.embedding_length"),
        intermediate_size=fields.integer("text_cnn.feed_forward_length"),
        num_layers=len(taps),
        num_heads=1,
        num_kv_heads=1,
        head_dim=2,
        context_length=_context_length(fields),
        norm_eps=0.0,
        activation="relu",
        rope_dim=2,
        rope_theta=10_000.0,
        rope_local_theta=None,
        rope_scaling=RopeScaling(),
        rope_pairing="neox",
        attention_scale=1.0,
        attention_bias=False,
        sliding_window=None,
        sliding_layers=(False,) * len(taps),
        attention_softcap=None,
        final_softcap=None,
        tie_embeddings=True,
        embedding_scale=1.0,
        convolutions=convolutions,
    )


def fields_of_text_cnn(
    name: str, hidden_size: int, num_filters: int, context_length: int, convolutions: Convolutions
) -> dict[str, bytes]:
    """The metadata of such a file, as `GgufWriter` takes it; `num_filters` are those of each convolution."""
    values: dict[str, StandardValue] = {
        "general.architecture": "text_cnn",
        "general.name": name,
        "text_cnn.context_length": context_length,
        "text_cnn.embedding_length": hidden_size,
        "text_cnn.feed_forward_length": num_filters,
        TAPS_KEY: convolutions.taps,
        RANKS_KEY: convolutions.ranks,
        LABELS_KEY: convolutions.labels,
    }
    return {key: encode_as_converted(value) for key, value in values.items()}


def _context_length(fields: Fields) -> int:
    """Bounded, since no table of positions in the file bounds it."""
    key = "text_cnn.context_length"
    length = fields.integer(key)
    if not 1 <= length <= MAX_CONTEXT:
        raise fields.wrong(key, length, f"a whole number from 1 to {MAX_CONTEXT}")
    return length


def _integers(fields: Fields, key: str) -> tuple[int, ...]:
    items = fields.items(key)
    if items is None:
        raise ModelFileError(f"{fields.source}: the key '{key}' is missing; the file is incomplete.")
    if not 1 <= len(items) <= MAX_CONVOLUTIONS or any(isinstance(i, bool) or not isinstance(i, int) for i in items):
        raise fields.wrong(key, items, f"a list of 1 to {MAX_CONVOLUTIONS} whole numbers")
    return tuple(item for item in items if isinstance(item, int))


def _labels(fields: Fields) -> tuple[str, ...]:
    labels = fields.values.get(LABELS_KEY)
    if not isinstance(labels, StringArray) or len(labels) > MAX_LABELS:
        raise fields.wrong(LABELS_KEY, labels, f"a list of at most {MAX_LABELS} strings")
    return tuple(labels)
