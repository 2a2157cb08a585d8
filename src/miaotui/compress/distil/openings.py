"""What the teacher is given to go on from, where the user gives no prompts: openings of texts of many kinds."""

from __future__ import annotations

import random

SUBJECTS = (
    "the city of Lisbon", "volcanoes", "the violin", "honey bees", "the Roman Empire", "solar power", "bread",
    "the human heart", "chess", "railways", "the Pacific Ocean", "vaccines", "Shakespeare", "coffee", "glaciers",
    "democracy", "the Moon", "bicycles", "jazz", "earthquakes", "the printing press", "whales", "glass",
    "the French Revolution", "football", "mathematics", "the Great Wall", "steel", "migration", "the Amazon river",
    "photography", "silk", "the stock market", "dinosaurs", "lighthouses", "the brain", "castles", "radio", "rice",
    "Mozart", "the desert", "submarines", "poetry", "trees", "the telephone", "painting", "elections", "cinema",
)  # fmt: skip
FORMS = (
    "The history of {} begins",
    "{} is",
    "{} was",
    "In {}, the",
    "Researchers who study {} have",
    "An introduction to {}\n\n",
    "Question: What should everyone know about {}?\nAnswer:",
    "The best-known book about {} was published in",
    "During the nineteenth century, {}",
    "Why {} matters:",
    "Early in his career, he wrote about {}.",
    "The album, whose songs are about {}, was released",
    "According to the museum's catalogue, {}",
    "News: A report on {} released on Tuesday",
)
OTHERS = (
    "Once upon a time", "She was born in", "The film follows", "The ship was", "He played for the club", "The song",
    "The storm", "Dear Anna,", "The game was developed by", "The species is found in", "The road begins", "Chapter 1\n",
    "The battle", "In the third season", "The church", "Born in London,", "The king", "The following day,", "Abstract.",
    "The company", "The village lies", "To make this, you need", "def main():\n", "The team won", "After the war,",
    "On the evening of 12 May", "The construction of the bridge", "His father", "The critics", "At the age of",
)  # fmt: skip


def openings(count: int, seed: int) -> list[str]:
    """So many texts to go on from, no two the same while there are that many."""
    every = [*OTHERS, *(_capital(form.format(subject)) for form in FORMS for subject in SUBJECTS)]
    chosen = random.Random(seed)  # noqa: S311 (nothing secret)
    return [text for _ in range(-(-count // len(every))) for text in chosen.sample(every, len(every))][:count]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
