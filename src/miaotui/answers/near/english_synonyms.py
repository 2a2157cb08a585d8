"""English words and phrases that ask for the same answer. Data only; the first of a line stands for the others.

Only what holds in nearly every question: near-synonyms (house, home; car, vehicle) are left out on purpose.
"""

from __future__ import annotations

from typing import Final

_SAME_WORDS = """
movie film
picture photo photograph pic
favorite favourite
buy purchase
begin start commence
remove eliminate
large big huge
anyone anybody
someone somebody
everyone everybody
quick fast rapid
quickly fast
mobile cellphone
difference distinction
important significant
example instance
error mistake
phd doctorate
exam examination
advertisement ad advert
app application
laptop notebook
tv television
email mail
bike bicycle
photocopy xerox
doctor physician
teen teenager
lawyer attorney
soccer football
petrol gasoline
company firm
job employment
price cost
salary pay
demonetization demonetisation
color colour
center centre
organize organise
organization organisation
realize realise
recognize recognise
analyze analyse
program programme
behavior behaviour
theater theatre
yogurt yoghurt
defense defence
license licence
traveling travelling travel
aluminum aluminium
gray grey
math maths mathematics
labor labour
flavor flavour
neighbor neighbour
honor honour
humor humour
optimize optimise
summarize summarise
minimize minimise
maximize maximise
apologize apologise
mom mum mother
dad father
bf boyfriend
gf girlfriend
fat overweight obese
cheap inexpensive
famous well-known renowned
delete erase
learn study
improve enhance
earn make-money
increase boost
reduce decrease curb
happen occur
answer reply
create make build
get obtain acquire
lesson class
tip suggestion advice
become be
girl woman
guy man
website site webpage
institute institution
major main
type kind sort
method way
benefit advantage pro
disadvantage drawback downside con
usa america
uk britain
pc computer
vacation holiday
rubbish garbage trash
apartment flat
elevator lift
truck lorry
sick ill
smart intelligent clever
rich wealthy
afraid scared
tired exhausted
easy simple
hard difficult tough
allow permit let
forbid prohibit ban
need require
use utilize utilise usage
show display
choose pick select
finish complete
fix repair
close shut
"""

# Left out after all where the train half showed two meanings, or the words are not the same to someone who asks.
_REMOVED: Final = frozenset(
    [
        "fall",
        "football",
        "make-money",
        "be",
        "woman",
        "girl",
        "guy",
        "man",
        "class",
        "lift",
        "holiday",
        "flat",
        "way",
        "use",
        "usage",
        "utilize",
        "utilise",
        "pay",
        "cost",
        "mother",
        "father",
        "mom",
        "dad",
        "con",
        "pro",
        "lessen",
        "let",
        "ill",
    ]
)

_PHRASES = """
in order to > to
as well as > and
and also > and
along with > with
right now >
these days >
at present >
at the moment >
as of now >
of all time >
make money > earn money
making money > earn money
get rid of > remove
find out > find
get started with > begin
log in > login
sign in > login
log into > login
log on > login
sign up > register
cell phone > cellphone
mobile phone > cellphone
united states of america > usa
united states > usa
u s a > usa
u s > usa
united kingdom > uk
great britain > britain
artificial intelligence > ai
machine learning > ml
operating system > os
new york city > nyc
pros and cons > benefit and disadvantage
advantages and disadvantages > benefit and disadvantage
kind of > type
kinds of > type
sort of > type
sorts of > type
type of > type
types of > type
different types > type
different kinds > type
a lot of > many
lots of > many
plenty of > many
in the world > world
of the world > world
on earth > earth
or not >
have to > must
need to > must
has to > must
going to > will
able to > can
is it possible to > can
is it possible for > can
what is the meaning of > what mean
what is meant by > what mean
what is the definition of > what mean
what do you mean by > what mean
what is the purpose of > why
what is the reason for > why
what is the reason behind > why
what are the reasons for > why
what are the reasons behind > why
what is the reason that > why
what is the reason why > why
for what reason > why
how come > why
what time > when
on what date > when
in which year > when
in what year > when
what year > when
in which country > where country
what place > where
what is the way to > how
what is a way to > how
what is the way of > how
what can i do to > how
what should i do to > how
what can you do to > how
what can one do to > how
what steps should i take to > how
what are the steps to > how
what do i need to do to > how
what is the process to > how
what is the process of > how
what is the procedure to > how
what is the procedure for > how
does it mean > mean
is there a way to > how
is there any way to > how
how much time > how long
is it true that > whether
what is the concept of > what is
i become > i be
you become > you be
one become > one be
what are your thoughts on > what do you think
what are your thoughts about > what do you think
what are your views on > what do you think
what are your views about > what do you think
what is your view on > what do you think
what is your opinion on > what do you think
what is your opinion about > what do you think
what is your opinion of > what do you think
what are your opinions on > what do you think
what do you think of > what do you think
what do you think about > what do you think
what are some tips on how to > how
what are some suggestions on how to > how
what kind of > what type
opinion about > opinion
opinion on > opinion
opinions on > opinion
opinions about > opinion
think about > think
think of > think
such as > like
versus > vs
"""


_WAYS: Final = tuple(
    f"{which} {end}"
    for which in (
        "what is the best way", "which is the best way", "what is a good way", "what are the best ways",
        "which are the best ways", "what are good ways", "what are some good ways", "what are some of the best ways",
        "what are some best ways", "what are some ways", "what are the ways", "what are ways",
    )
    for end in ("to", "of")
)  # fmt: skip


def _same() -> dict[str, str]:
    table: dict[str, str] = {}
    for line in _SAME_WORDS.split("\n"):
        first, *others = line.split() or [""]
        table.update({other: first for other in others if other not in _REMOVED})
    return table


def _phrases() -> dict[tuple[str, ...], tuple[str, ...]]:
    pairs = (line.split(">") for line in _PHRASES.strip().split("\n"))
    phrases = {tuple(before.split()): tuple(after.split()) for before, after in pairs}
    return phrases | {tuple(way.split()): ("how",) for way in _WAYS}


SAME_WORDS: Final = _same()
PHRASES: Final = _phrases()
LONGEST_PHRASE: Final = max(map(len, PHRASES))
