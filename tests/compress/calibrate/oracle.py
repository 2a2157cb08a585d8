"""What transformers' linears are fed, watched from outside, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
import transformers

from models import tiny

Sequences = Sequence[Sequence[int]]


def fed(
    model: transformers.PreTrainedModel, gguf_name: Callable[[str], str], sequences: Sequences
) -> dict[str, np.ndarray]:
    """Rows that came into each linear, by GGUF name [tokens, columns]."""
    rows: dict[str, list[np.ndarray]] = {}
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            kept = rows.setdefault(gguf_name(name), [])
            hooks.append(module.register_forward_pre_hook(lambda _, args, kept=kept: kept.append(flat(args[0]))))
    run(model, sequences)
    for hook in hooks:
        hook.remove()
    return {name: np.concatenate(kept) for name, kept in rows.items()}


def watched(model: transformers.PreTrainedModel, sequences: Sequences) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What came into the linears of a decoder, and 1 - cosine of every layer's input and output [layers]."""
    cosines: list[list[np.ndarray]] = [[] for _ in model.model.layers]
    hooks = [
        layer.register_forward_hook(lambda _, args, out, kept=kept: kept.append(cosine(args[0], out)))
        for layer, kept in zip(model.model.layers, cosines, strict=True)
    ]
    rows = fed(model, partial(decoder_name, model.config), sequences)
    for hook in hooks:
        hook.remove()
    return rows, np.array([1 - np.concatenate(kept).mean() for kept in cosines])


def decoder_name(config: transformers.PreTrainedConfig, name: str) -> str:
    if name == "lm_head" and config.tie_word_embeddings:
        return "token_embd.weight"
    return tiny.gguf_name(f"{name}.weight", tiny.gguf_architecture(config))


def run(model: transformers.PreTrainedModel, sequences: Sequences) -> None:
    with torch.no_grad():
        for ids in sequences:
            model(torch.tensor([list(ids)]))


def flat(x: torch.Tensor) -> np.ndarray:
    return x.detach().double().reshape(-1, x.shape[-1]).numpy()


def cosine(before: torch.Tensor, after: torch.Tensor | tuple[torch.Tensor, ...]) -> np.ndarray:
    a, b = flat(before), flat(after if isinstance(after, torch.Tensor) else after[0])
    return (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
