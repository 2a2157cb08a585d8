"""Trains TextCNN (arXiv:1408.5882) in PyTorch, in an environment of its own. Arrays come and go in files.

usage: separable_worker.py train DATA.arrays OUT.arrays TAPS FILTERS EPOCHS SEED
       separable_worker.py tune DATA.arrays TEACHER.arrays STUDENT.arrays OUT.arrays EPOCHS SEED
       separable_worker.py time DATA.arrays MODEL.arrays THREADS
DATA: ids, offsets, labels of the training texts, and the embedding to begin with. Models: arrays by GGUF name.
`tune` trains a separable model on the labels and on the scores of the whole one (arXiv:1503.02531, section 2).
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from array_file import Arrays, load_arrays, save_arrays

BATCH, DROPOUT = 50, 0.5
LEARNING_RATE, EMBEDDING_RATE = 1e-3, 3e-4
TEMPERATURE = 2.0


class Separable(nn.Module):
    """`rank` filters for each channel alone, then a matrix."""

    def __init__(self, channels: int, filters: int, taps: int, rank: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(channels, channels * rank, taps, padding="same", groups=channels, bias=False)
        self.pointwise = nn.Conv1d(channels * rank, filters, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pointwise(self.depthwise(x))


class TextCnn(nn.Module):
    """Scores [texts, 2] of padded token ids; -1 is padding."""

    def __init__(self, vocab: int, channels: int, filters: int, taps: list[int], ranks: list[int]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, channels)
        self.convolutions = nn.ModuleList(
            Separable(channels, filters, k, r) if r else nn.Conv1d(channels, filters, k, padding="same")
            for k, r in zip(taps, ranks, strict=True)
        )
        self.head = nn.Linear(filters * len(taps), 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        there = (ids >= 0)[:, None, :]
        x = self.embedding(ids.clamp(min=0)).transpose(1, 2) * there
        # Rows behind a text's end become 0, which no maximum of ReLU is below.
        largest = [(conv(x).relu() * there).amax(2) for conv in self.convolutions]
        return self.head(F.dropout(torch.cat(largest, 1), DROPOUT, self.training))


def to_arrays(model: TextCnn) -> Arrays:
    """Under GGUF names, windows as [taps, channels]."""
    arrays = {"token_embd.weight": model.embedding.weight}
    for i, conv in enumerate(model.convolutions):
        name = f"blk.{i}.conv"
        if isinstance(conv, Separable):
            rank, channels = conv.pointwise.in_channels // conv.depthwise.in_channels, conv.depthwise.in_channels
            filters = conv.depthwise.weight.reshape(channels, rank, -1)  # a channel's filters are side by side
            arrays[f"{name}_depthwise.weight"] = filters.permute(1, 2, 0).reshape(-1)
            pointwise = conv.pointwise.weight.reshape(-1, channels, rank)
            arrays[f"{name}_pointwise.weight"] = pointwise.transpose(1, 2).reshape(len(pointwise), -1)
            arrays[f"{name}_pointwise.bias"] = conv.pointwise.bias
        else:
            arrays[f"{name}.weight"] = conv.weight.transpose(1, 2).reshape(conv.out_channels, -1)
            arrays[f"{name}.bias"] = conv.bias
    arrays |= {"cls.output.weight": model.head.weight, "cls.output.bias": model.head.bias}
    return {name: tensor.detach().numpy().astype(np.float32) for name, tensor in arrays.items()}


def from_arrays(arrays: Arrays) -> TextCnn:
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items() if array.dtype == np.float32}
    vocab, channels = tensors["token_embd.weight"].shape
    taps, ranks, count = [], [], 0
    while (f"blk.{count}.conv.weight" in tensors) or (f"blk.{count}.conv_pointwise.weight" in tensors):
        whole, pointwise = (tensors.get(f"blk.{count}.conv{part}.weight") for part in ("", "_pointwise"))
        ranks.append(0 if pointwise is None else pointwise.shape[1] // channels)
        filters = tensors[f"blk.{count}.conv_depthwise.weight"].numel() // ranks[-1] if ranks[-1] else whole.shape[1]
        taps.append(filters // channels)
        num_filters = (whole if pointwise is None else pointwise).shape[0]
        count += 1
    model = TextCnn(vocab, channels, num_filters, taps, ranks)
    with torch.no_grad():
        model.embedding.weight.copy_(tensors["token_embd.weight"])
        for i, conv in enumerate(model.convolutions):
            fill(conv, tensors, f"blk.{i}.conv", channels)
        model.head.weight.copy_(tensors["cls.output.weight"])
        model.head.bias.copy_(tensors["cls.output.bias"])
    return model


def fill(conv: nn.Module, tensors: dict[str, torch.Tensor], name: str, channels: int) -> None:
    if not isinstance(conv, Separable):
        weight = tensors[f"{name}.weight"]
        conv.weight.copy_(weight.reshape(len(weight), -1, channels).transpose(1, 2))
        conv.bias.copy_(tensors[f"{name}.bias"])
        return
    rank = conv.pointwise.in_channels // channels
    filters = tensors[f"{name}_depthwise.weight"].reshape(rank, -1, channels)
    conv.depthwise.weight.copy_(filters.permute(2, 0, 1).reshape(channels * rank, 1, -1))
    pointwise = tensors[f"{name}_pointwise.weight"]
    conv.pointwise.weight.copy_(pointwise.reshape(-1, rank, channels).transpose(1, 2).reshape(len(pointwise), -1, 1))
    conv.pointwise.bias.copy_(tensors[f"{name}_pointwise.bias"])


def batches(data: Arrays, generator: torch.Generator) -> list[torch.Tensor]:
    """Indices of texts: of like length together, in an order of chance."""
    lengths = torch.from_numpy(np.diff(data["offsets"])).float()
    order = (lengths + 4 * torch.rand(len(lengths), generator=generator)).argsort()
    parts = list(order.split(BATCH))
    return [parts[i] for i in torch.randperm(len(parts), generator=generator)]


def padded(data: Arrays, texts: torch.Tensor) -> torch.Tensor:
    rows = [torch.from_numpy(data["ids"][data["offsets"][i] : data["offsets"][i + 1]]).long() for i in texts.tolist()]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)


def train(model: TextCnn, data: Arrays, epochs: int, seed: int, teacher: TextCnn | None = None) -> None:
    """Rows of the embedding that no text has are left out meanwhile: their gradients are 0, and Adam reads them all."""
    used, ids = np.unique(data["ids"], return_inverse=True)
    whole = model.embedding
    model.embedding = nn.Embedding.from_pretrained(whole.weight[torch.from_numpy(used).long()], freeze=False)
    if teacher is not None:
        rows = teacher.embedding.weight[torch.from_numpy(used).long()]
        teacher.embedding = nn.Embedding.from_pretrained(rows)
    _train(model, {**data, "ids": ids}, epochs, seed, teacher)
    with torch.no_grad():
        whole.weight[torch.from_numpy(used).long()] = model.embedding.weight
    model.embedding = whole


def _train(model: TextCnn, data: Arrays, epochs: int, seed: int, teacher: TextCnn | None) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.from_numpy(data["labels"]).long()
    rest = [p for name, p in model.named_parameters() if not name.startswith("embedding")]
    groups = [{"params": rest, "lr": LEARNING_RATE}, {"params": [model.embedding.weight], "lr": EMBEDDING_RATE}]
    optimizer = torch.optim.Adam(groups)
    steps = epochs * -(-len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    for epoch in range(epochs):
        start, total = time.perf_counter(), 0.0
        model.train()
        for texts in batches(data, generator):
            ids = padded(data, texts)
            scores = model(ids)
            loss = F.cross_entropy(scores, labels[texts])
            if teacher is not None:
                loss = 0.5 * loss + 0.5 * distillation(scores, teacher, ids)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(texts)
        print(f"epoch {epoch + 1}/{epochs}: loss {total / len(labels):.4f}, {time.perf_counter() - start:.1f} s",
              file=sys.stderr, flush=True)  # fmt: skip
    model.eval()


def distillation(scores: torch.Tensor, teacher: TextCnn, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        wanted = (teacher(ids) / TEMPERATURE).softmax(1)
    return TEMPERATURE**2 * F.kl_div((scores / TEMPERATURE).log_softmax(1), wanted, reduction="batchmean")


def main() -> None:
    command, data, *rest = sys.argv[1], load_arrays(sys.argv[2]), *sys.argv[3:]
    if command == "train":
        out, taps, filters, epochs, seed = rest[0], [int(t) for t in rest[1].split(",")], *map(int, rest[2:])
        torch.manual_seed(seed)
        vocab, channels = data["embedding"].shape
        model = TextCnn(vocab, channels, filters, taps, [0] * len(taps))
        with torch.no_grad():
            model.embedding.weight.copy_(torch.from_numpy(data["embedding"]))
        train(model, data, epochs, seed)
        save_arrays(out, to_arrays(model))
    elif command == "tune":
        teacher, student = (from_arrays(load_arrays(path)) for path in rest[:2])
        torch.manual_seed(int(rest[4]))
        train(student, data, int(rest[3]), int(rest[4]), teacher.eval())
        save_arrays(rest[2], to_arrays(student))
    else:
        torch.set_num_threads(int(rest[1]))
        model, times = from_arrays(load_arrays(rest[0])).eval(), []
        with torch.inference_mode():
            for i in range(len(data["labels"])):
                ids = padded(data, torch.tensor([i]))
                start = time.perf_counter()
                model(ids)
                times.append(time.perf_counter() - start)
        print(json.dumps({"p50_ms": 1e3 * float(np.median(times[20:]))}))


if __name__ == "__main__":
    main()
