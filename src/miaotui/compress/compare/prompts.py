"""Questions to ask: the user's, or a few of every kind where there are none."""

from __future__ import annotations

from pathlib import Path

from miaotui.compress.evaluate.lines import LineReader, read_text

MAX_PROMPTS = 10_000
MAX_CHARACTERS = 1 << 20

COMMON = (
    "Explain in simple words why the sky is blue and sunsets are red.",
    "Write a short story about a lighthouse keeper who finds a letter in a bottle.",
    "What should I look for when I buy a used bicycle?",
    "Write a Python function that returns the n largest values of a list, with a docstring and an example.",
    "Summarize the causes of the First World War for a pupil of fourteen.",
    "How do vaccines teach the body to fight a disease?",
    "Give me a recipe for lentil soup for four people, step by step.",
    "Compare trains and planes for a journey of 600 kilometres: time, cost, comfort, emissions.",
    "A shop sells pens at 3 for 4 euros. How much do 18 pens cost? Explain each step.",
    "Write a polite e-mail to a landlord about a heater that has been broken for a week.",
    "What is the difference between a process and a thread, and when would I use which?",
    "Describe how bread dough rises, from the yeast's point of view.",
    "为什么月亮会有阴晴圆缺?请简单解释。",
    "Write an SQL query that lists each customer's latest order, and explain it.",
    "Which habits help people to sleep better, and what is known about why?",
    "Erkläre kurz, wie ein Wärmetauscher funktioniert und wo man ihn im Alltag findet.",
)
"""Explaining, telling, coding, counting, advising; three languages. The reference's answers to them are the text that
models are compared on where the user gives none."""


def read_prompts(path: Path) -> list[str]:
    """A prompt a line as plain text, or, in a file that ends in .jsonl, as {"prompt": …}.

    Raises TaskFileError naming the line.
    """
    if path.suffix != ".jsonl":
        reader = LineReader(path, MAX_PROMPTS)
        return [reader.text(number, line, "prompt", MAX_CHARACTERS) for number, line in reader.lines(read_text(path))]
    reader = LineReader(path, MAX_PROMPTS)
    return [
        reader.text(number, fields.get("prompt"), "prompt", MAX_CHARACTERS)
        for number, fields in reader.objects(read_text(path))
    ]
