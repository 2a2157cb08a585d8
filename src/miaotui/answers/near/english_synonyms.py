"""English spellings and phrases that are the same words. Data only; the first of a line stands for the others.

No synonyms: a mail is not an email, nor is "simple interest" easy. What stands here has one meaning in every question.
"""

from __future__ import annotations

from typing import Final

_SPELLINGS: Final = """
favorite favourite
anyone anybody
someone somebody
everyone everybody
television tv TV
color colour
colors colours
center centre
theater theatre
organize organise
organization organisation
realize realise
recognize recognise
analyze analyse
optimize optimise
summarize summarise
minimize minimise
maximize maximise
apologize apologise
memorize memorise
behavior behaviour
yogurt yoghurt
defense defence
license licence
traveling travelling
aluminum aluminium
math maths mathematics
flavor flavour
neighbor neighbour
honor honour
humor humour
demonetization demonetisation
cellphone cellphones
usa US U.S. U.S USA U.S.A. U.S.A
"""
_PHRASES: Final = """
in order to > to
log in > login
log into > login to
cell phone > cellphone
cell phones > cellphone
United States of America > usa
united states of america > usa
United States > usa
united states > usa
United Kingdom > UK
united kingdom > UK
lots of > a lot of
what exactly is > what is
what exactly are > what are
who exactly is > who is
who exactly are > who are
what are some examples of > what are examples of
for what reason > why
"""

SPELLINGS: Final[dict[str, str]] = {
    other: first
    for first, *others in (line.split() for line in _SPELLINGS.strip().split("\n"))
    for other in others
}  # fmt: skip
PHRASES: Final[dict[tuple[str, ...], tuple[str, ...]]] = {
    tuple(before.split()): tuple(after.split())
    for before, after in (line.split(">") for line in _PHRASES.strip().split("\n"))
}
LONGEST_PHRASE: Final = max(map(len, PHRASES))
