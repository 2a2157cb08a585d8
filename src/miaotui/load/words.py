"""Text of a wanted length for prompts: seeded random words, nearly all of them one token in today's vocabularies."""

from __future__ import annotations

import random

_TEXT = """
able about above action after again age air all along also always among animal answer any area arm art ask away baby
back bad ball bank base bed before begin behind best better between big bird black blue board boat body book both
bottom box boy bring brother brown build business busy buy call car care carry case catch cause center change
check child church city class clean clear close cloud cold color come common control cook cool corner cost country
course cover cross cut dark day deal deep different dinner door down draw dream drive dry during each early earth
east easy eat edge eight empty end engine enough even evening ever every eye face fact fair fall family far farm
fast father feel field fight find fine finger finish fire first fish five floor fly follow food foot force form
forward four free fresh friend front full game garden gas girl give glass gold good great green ground group grow
guess hair half hand happy hard head hear heart heat heavy help high hill history hold home hope horse hot hour
house human hundred idea important inside iron island job join keep kind king knee know land large last late laugh
law lead learn leave left leg letter level life light line list listen little live long look lost love low machine
main make many map mark market matter mean measure meat middle milk mind minute moment money month moon morning
mother mountain mouth move music name nature near neck need never new next night north nose note nothing number
ocean office often old only open order other out over own page paint paper part party pass past path pay people
person picture piece place plan plant play point poor power press problem public pull push put question quick quiet
rain reach read ready real reason red remember rest rich ride right river road rock room round rule run safe salt
same sand save school science sea season seat second see seed sell send serve set seven several shape share ship
shoe shop short shoulder show side sign silver simple sing sister sit six size skin sky sleep slow small smile snow
soft soil some son song soon sound south space speak special spring square stand star start state station stay step
still stone stop store story street strong student study such sugar summer sun sure table take talk tall teach team
ten test thank thing think third three time tiny today together tomorrow top total touch town trade train travel
tree trip true trust try turn twenty two type uncle under unit until use usual valley value very view village
visit voice wait walk wall want war warm wash watch water way wear weather week weight well west wheel while white
whole wide wife wild wind window wing winter wish woman wonder wood word work world write wrong year yellow young
"""
WORDS = tuple(_TEXT.split())


def dice(*seed: object) -> random.Random:
    """Random numbers that are the same for the same seed; for text and arrivals, never for secrets."""
    return random.Random(":".join(map(str, seed)))  # noqa: S311


def random_words(num_words: int, *seed: object) -> list[str]:
    """So many words, the same ones for the same seed."""
    return dice(*seed).choices(WORDS, k=num_words)
