"""A comparison with everything in it, made of figures that nobody measured."""

from __future__ import annotations

from typing import Any

from miaotui.compress.compare.answers import Answer
from miaotui.compress.compare.document import Comparison, Facts, Start, document
from miaotui.compress.compare.quality import Quality
from miaotui.compress.compare.speed import Speed, Spread
from miaotui.compress.divergence import Divergence
from miaotui.compress.evaluate.items import Item, Task
from miaotui.compress.evaluate.solve import Solved
from miaotui.compress.intervals import Difference

NAMES = ("qwen-0.5b-q8_0", "qwen-0.5b-q4_k_m", "qwen-0.5b-iq4_nl", "qwen-0.5b-q4_0")
KL = (0.0, 0.021, 0.034, 0.071)
EVIL = "<script>alert('&\"')</script>\x00"


def comparison(names: tuple[str, ...] = NAMES, **changes: Any) -> Comparison:
    count = len(names)
    sizes = (525_000_000, 398_000_000, 352_000_000, 349_000_000)
    facts = [Facts(n, f"/m/{n}.gguf", sizes[i], 494_000_000, {"Q8_0": 1}, "qwen2", {}) for i, n in enumerate(names)]
    rates = (40.0, 61.0, 60.0, 66.0)
    speeds = [
        Speed(
            Spread(900 + 20.0 * i, 850, 960),
            Spread(rates[i], rates[i] * 0.95, rates[i] * 1.03),
            Spread(1 + i / 45, 1, 1.1),
            Spread(rates[i] / 40, rates[i] / 41, rates[i] / 39),
            None,
            None,
        )
        for i in range(count)
    ]
    quality = [
        Quality(
            (600.0 + 9 * i, 650.0 + 11 * i),
            (255, 255),
            (1000, 1010),
            Divergence(510, KL[i], KL[i] / 8, 9 * KL[i], 0.95 - i / 50, (0.92 - i / 50, 0.97 - i / 50), 13.0, 12.5)
            if i
            else None,
            None,
            Difference(0.01 * i, 0.004 * i, 0.016 * i) if i else None,
        )
        for i in range(count)
    ]
    right = [tuple((k * 7 + i * k) % 5 != 0 for k in range(40)) for i in range(count)]
    choice = Task("planets", "choice", tuple(Item(k, "Q", (" a", " b")) for k in range(40)))
    cloze = Task("last words", "cloze", tuple(Item(k, "a", (" b",)) for k in range(40)))
    answers = [Answer(f"It scatters, {'as ' * i}light does.", i != 2, 13, i == 0) for i in range(count)]
    options: dict[str, Any] = {
        "starts": [Start(0.4 + i / 10, 700_000_000 - i) for i in range(count)],
        "speeds": speeds,
        "energy": "there is no counter",
        "quality": quality,
        "text": "510 tokens of some text",
        "tasks": [
            (choice, [Solved(one, by_length=one) for one in right]),
            (cloze, [Solved(one, target_loss=1.5) for one in right]),
        ],
        "prompts": ["Why is the sky blue?"],
        "answers": [answers],
        "peak_memory_bytes": 1_500_000_000,
        "notes": ["Something is to be noted."],
    }
    machine = {"model": "some processor", "tier": "avx2", "threads": 2}
    return Comparison(facts, machine, "2026-01-01T00:00:00+00:00", **(options | changes))


def report(names: tuple[str, ...] = NAMES, **changes: Any) -> dict[str, Any]:
    return document(comparison(names, **changes))
