"""English words by what they do to a question's meaning. Data only; `english` says how they are used.

No word here is left out of what is compared: the lists say in what two questions differ, and the few forms that are the
same. A word that is missing costs a hit or a plainer reason, never a wrong one.
"""

from __future__ import annotations

from typing import Final

from miaotui.answers.near.vocabulary import words

CONTRACTIONS: Final[dict[str, tuple[str, ...]]] = {
    "can't": ("can", "not"), "cant": ("can", "not"), "cannot": ("can", "not"), "won't": ("will", "not"),
    "shan't": ("shall", "not"), "dont": ("do", "not"),
    "doesnt": ("does", "not"), "didnt": ("did", "not"), "isnt": ("is", "not"), "arent": ("are", "not"),
    "wasnt": ("was", "not"), "shouldnt": ("should", "not"), "wouldnt": ("would", "not"), "couldnt": ("could", "not"),
    "havent": ("have", "not"), "hasnt": ("has", "not"), "im": ("i", "am"),
    "whats": ("what", "is"), "hows": ("how", "is"), "wheres": ("where", "is"), "whos": ("who", "is"),
    "it's": ("it", "is"), "he's": ("he", "is"), "she's": ("she", "is"), "that's": ("that", "is"),
    "there's": ("there", "is"), "here's": ("here", "is"), "what's": ("what", "is"), "who's": ("who", "is"),
    "where's": ("where", "is"), "when's": ("when", "is"), "why's": ("why", "is"), "how's": ("how", "is"),
}  # fmt: skip
ENDINGS: Final[dict[str, tuple[str, ...]]] = {
    "n't": ("not",), "'re": ("are",), "'ve": ("have",), "'ll": ("will",), "'d": ("would",), "'m": ("am",),
    "'s": ("'s",),
}  # fmt: skip

PERSONS: Final = words("I me my mine we us our ours you your yours he him his she her hers they them their theirs one")
MOODS: Final[dict[str, str]] = {
    **dict.fromkeys(words("was were did had"), "past"), **dict.fromkeys(words("will shall"), "future"),
    "would": "would", **dict.fromkeys(words("can could"), "can"), **dict.fromkeys(words("should ought"), "should"),
    "must": "must", **dict.fromkeys(words("may might"), "may"),
}  # fmt: skip
STARTS_OF_CHOICE: Final = words(
    """
        is are am was were do does did has have had can could will would shall should may might must
        """
)
NEGATIONS: Final = words(
    """
        not no never none nobody nothing nowhere neither nor without hardly barely scarcely rarely seldom except
        unless lack lacks lacking instead only non
        """
)

# How many words are asked about, behind "how": "how long" is another question than "how".
DEGREES: Final = words(
    """
        many much long far old often tall big large high deep fast hard heavy wide expensive cold hot common
        accurate good bad close likely safe strong smart popular important effective powerful rich dangerous
        quickly soon early late difficult easy small short swift widely well badly big loud bright thick cheap
        healthy
        """
)
QUESTION_WORDS: Final = words("what which who whom whose where when why how whether")

# "How do I …?", "How can one …?", "How to …?": how anybody does it. "How do you …?" may ask how you do it, "How should
# I …?" asks for advice.
HOW: Final = tuple(
    tuple(line.split())
    for line in ("how do I", "how can I", "how to", "how do one", "how can one", "how I can")
)  # fmt: skip
SUPERLATIVES: Final = words(
    "best worst largest biggest smallest highest lowest fastest cheapest easiest oldest longest"
)
# Behind them one thing is not several of its kind.
POINTING: Final = words(
    "the my your his her its our their this that these those 's a an one all both each every any no other"
)
BESIDE_I: Final = words("do did can could should would will shall am have had must may might was")
# What one is, not what one does: "How do I look?" is not "How to look?".
STATES: Final = words("look sound seem appear feel smell taste compare rank differ fare weigh act behave work operate")

# Questions about words themselves, where each counts as it is written: how "colour" is spelt is not how "color" is.
ABOUT_WORDS: Final = words(
    """
        spell spells spelled spelling spelt word words write writes writing written wrote letter letters pronounce
        pronounced pronunciation british american say says said saying grammar grammatical grammatically correct
        correctly term synonym synonyms syllable syllables hyphen hyphenated apostrophe abbreviation abbreviate stand
        stands plural singular typed contraction translate translated translation called language rhyme rhymes
        sentence noun verb adjective capitalize capitalized uppercase lowercase
        """
)

# Said before the question, they ask for an answer and add nothing; a question word must follow.
OPENINGS: Final = tuple(
    tuple(line.split())
    for line in (
        "can you please tell me", "could you please tell me", "can you tell me", "could you tell me", "please tell me",
        "tell me", "can you please explain", "can you explain", "could you explain", "please explain", "explain",
    )
)  # fmt: skip
GREETINGS: Final = words("hi hello hey please Hi Hello Hey")
THANKS: Final = (("please",), ("thanks",), ("Thanks",), ("thank", "you"), ("Thank", "you"))

DATES: Final = words(
    """
        January February March April May June July August September October November December
        january february april june july august september october november december
        Monday Tuesday Wednesday Thursday Friday Saturday Sunday
        monday tuesday wednesday thursday friday saturday sunday today yesterday tomorrow tonight weekend
        weekday morning afternoon evening night midnight noon spring summer autumn winter christmas easter
        thanksgiving halloween ramadan diwali Christmas Easter Thanksgiving Halloween Ramadan Diwali
        now ago bc ad bce ce BC AD am pm AM PM daily weekly monthly yearly annual
        annually hourly nightly last next previous
        """
)
NUMBERS: Final[dict[str, str]] = {
    "zero": "0", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8",
    "nine": "9", "ten": "10", "eleven": "11", "twelve": "12", "thirteen": "13", "fourteen": "14", "fifteen": "15",
    "sixteen": "16", "seventeen": "17", "eighteen": "18", "nineteen": "19", "twenty": "20", "thirty": "30",
    "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80", "ninety": "90",
}  # fmt: skip
ORDINALS: Final[dict[str, int]] = {
    "first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9,
    "tenth": 10,
}  # fmt: skip
SCALES: Final[dict[str, int]] = {
    "hundred": 10**2, "thousand": 10**3, "lakh": 10**5, "million": 10**6, "crore": 10**7, "billion": 10**9,
    "trillion": 10**12,
}  # fmt: skip
# As they are written: MW is not mW, nor Mb MB. What means more than one thing behind a number (g, m, l, A, K) is no
# unit here but a word.
_UNITS = (
    "km kms kilometer kilometers kilometre kilometres|meter meters metre metres|cm centimeter centimeters centimetre "
    "centimetres|mm millimeter millimeters millimetre millimetres|mile miles|ft foot feet|inch inches|yard yards|"
    "kg kgs kilogram kilograms kilogramme|gram grams gramme grammes|mg milligram milligrams|lb lbs|pound "
    "pounds|oz ounce ounces|ton tons|tonne tonnes|liter liters litre litres|ml mL milliliter milliliters|"
    "gallon gallons|pint pints|cup cups|tablespoon tablespoons tbsp|teaspoon teaspoons tsp|Celsius celsius|"
    "Fahrenheit fahrenheit|kelvin kelvins|degree degrees|second seconds sec secs|minute minutes min mins|"
    "hour hours hr hrs|day days|week weeks|month months|year years yr yrs|decade decades|century centuries|bit bits|"
    "byte bytes|kB kilobyte kilobytes|MB megabyte megabytes|Mb megabit megabits|GB gigabyte gigabytes|"
    "Gb gigabit gigabits|TB terabyte terabytes|watt watts|mW milliwatt milliwatts|kW kilowatt kilowatts|"
    "MW megawatt megawatts|kWh|volt volts|amp amps ampere amperes|mAh|joule joules|calorie calories|kcal|pascal "
    "pascals|psi|mph|kph|percent|percentile|$ dollar dollars|€ euro euros|£|yen|yuan|₹|rupee rupees|won|"
    "ruble rubles|franc francs|peso pesos|cent cents|acre acres|hectare hectares"
)
UNITS: Final[dict[str, str]] = {word: group.split()[0] for group in _UNITS.split("|") for word in group.split()}
# Without a number in front of them they are words like any other.
UNITS_BEHIND_NUMBERS: Final = words("second sec min minute foot won cent")

# Names in any letters: no word that is written like them means another thing.
KNOWN_NAMES: Final = words(
    """
        afghanistan albania algeria argentina australia austria belgium brazil bulgaria canada colombia croatia
        denmark egypt england ethiopia europe finland france germany ghana india indonesia iran iraq
        ireland israel italy jamaica kenya kuwait lebanon libya malaysia mexico morocco nepal netherlands
        nigeria norway pakistan peru philippines poland portugal romania russia scotland serbia singapore spain
        sweden switzerland syria taiwan thailand tunisia ukraine venezuela vietnam zimbabwe africa asia
        california florida chicago boston london berlin madrid moscow beijing shanghai tokyo seoul delhi mumbai
        paris rome bangalore chennai kolkata hyderabad toronto sydney melbourne vienna amsterdam barcelona
        english french german spanish italian japanese russian indian american british european african asian
        january february september october november december monday tuesday wednesday thursday friday saturday sunday
        christmas google facebook youtube microsoft samsung instagram whatsapp wikipedia linkedin javascript
        typescript postgresql mysql sqlite mongodb linux ubuntu github quora iphone usa
        """
)
