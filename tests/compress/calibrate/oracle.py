"""What transformers' linears are fed, watched from outside, in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import transformers

from models import tiny


def watched(
    model: transformers.PreTrainedModel, sequences: Sequence[Sequence[int]]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Rows that came into each linear, by GGUF name [tokens, columns], and 1 - cosine of every layer [layers]."""
    rows: dict[str, list[np.ndarray]] = {}
    cosines: list[list[np.ndarray]] = [[] for _ in model.model.layers]
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            key = tiny.gguf_name(f"{name}.weight", tiny.gguf_architecture(model.config))
            if name == "lm_head" and model.config.tie_word_embeddings:
                key = "token_embd.weight"
            kept = rows.setdefault(key, [])
            hooks.append(module.register_forward_pre_hook(lambda _, args, kept=kept: kept.append(flat(args[0]))))
    for layer, kept in zip(model.model.layers, cosines, strict=True):
        hooks.append(layer.register_forward_hook(lambda _, args, out, kept=kept: kept.append(cosine(args[0], out))))
    with torch.no_grad():
        for ids in sequences:
            model(torch.tensor([list(ids)]))
    for hook in hooks:
        hook.remove()
    influence = np.array([1 - np.concatenate(kept).mean() for kept in cosines])
    return {name: np.concatenate(kept) for name, kept in rows.items()}, influence


def flat(x: torch.Tensor) -> np.ndarray:
    return x.detach().double().reshape(-1, x.shape[-1]).numpy()


def cosine(before: torch.Tensor, after: torch.Tensor | tuple[torch.Tensor, ...]) -> np.ndarray:
    a, b = flat(before), flat(after if isinstance(after, torch.Tensor) else after[0])
    return (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
