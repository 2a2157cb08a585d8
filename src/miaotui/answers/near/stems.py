"""English words in one form where that is known to change nothing: plurals of what is counted, forms of agreement."""

from __future__ import annotations

from typing import Final

from miaotui.answers.near.vocabulary import words

# Things whose plural is more of the same. No others: damages are not damage, nor arms an arm, nor glasses glass.
_COUNTED: Final = words(
    """
        way question book movie phone animal app website company country city language student school university
        college job car computer laptop game song file photo email password account user job idea example tip
        recipe restaurant hotel dog cat bird tree plant flower house friend girl boy parent teacher doctor lawyer
        engineer scientist programmer developer exam course skill tool problem reason symptom disease drug
        vitamin planet star egg apple banana potato tomato ingredient calorie bank startup product brand camera
        tablet bike train bus airport river mountain ocean island state employee author writer actor singer
        artist player team sport event festival holiday hobby habit dream joke story poem novel blog channel
        video channel episode theory equation algorithm database server browser plugin framework library
        subject topic chapter word sentence verb noun mistake error difference similarity advantage
        disadvantage benefit
        """
)
_PLURALS: Final[dict[str, str]] = {
    **{f"{word}s": word for word in _COUNTED},
    **{f"{word[:-1]}ies": word for word in _COUNTED if word.endswith("y")},
    "potatoes": "potato", "tomatoes": "tomato", "buses": "bus",
}  # fmt: skip
# They agree with who does it, which is said beside them.
_AGREEING: Final[dict[str, str]] = {"are": "is", "am": "is", "were": "was", "does": "do", "has": "have", "an": "a"}


def stem(word: str) -> str:
    """One form for a word's forms. Past forms and -ing keep theirs: "closed" is not "close", "building" not "build"."""
    return agreeing(_PLURALS.get(word, word))


def agreeing(word: str) -> str:
    """The same where how many there are is asked for: "the man" is not "the men"."""
    return _AGREEING.get(word, word)
