"""English words by what they do to a question's meaning. Data only; `english` says how they are used.

Grown from the train half of the labelled pairs and from the language, never from the test half. A word that is missing
here costs a hit, never a wrong one: words that only one of two questions has are refused unless they are listed.
"""

from __future__ import annotations

from typing import Final

from miaotui.answers.near.vocabulary import words

CONTRACTIONS: Final[dict[str, tuple[str, ...]]] = {
    "can't": ("can", "not"), "cant": ("can", "not"), "cannot": ("can", "not"), "won't": ("will", "not"),
    "wont": ("will", "not"), "shan't": ("shall", "not"), "ain't": ("is", "not"), "dont": ("do", "not"),
    "doesnt": ("does", "not"), "didnt": ("did", "not"), "isnt": ("is", "not"), "arent": ("are", "not"),
    "wasnt": ("was", "not"), "shouldnt": ("should", "not"), "wouldnt": ("would", "not"), "couldnt": ("could", "not"),
    "havent": ("have", "not"), "hasnt": ("has", "not"), "i'm": ("i", "am"), "im": ("i", "am"), "let's": ("let", "us"),
    "whats": ("what", "is"), "hows": ("how", "is"), "wheres": ("where", "is"), "whos": ("who", "is"),
    "it's": ("it", "is"), "he's": ("he", "is"), "she's": ("she", "is"), "that's": ("that", "is"),
    "there's": ("there", "is"), "here's": ("here", "is"), "what's": ("what", "is"), "who's": ("who", "is"),
    "where's": ("where", "is"), "when's": ("when", "is"), "why's": ("why", "is"), "how's": ("how", "is"),
    "alot": ("a", "lot"), "infront": ("in", "front"), "gonna": ("going", "to"), "wanna": ("want", "to"),
    "u": ("you",), "r": ("are",),
}  # fmt: skip
ENDINGS: Final[dict[str, tuple[str, ...]]] = {
    "n't": ("not",), "'re": ("are",), "'ve": ("have",), "'ll": ("will",), "'d": ("would",), "'m": ("am",),
}  # fmt: skip

# Without them the question asks the same. Prepositions among them say little that order does not; those that say a
# direction (from, into, off, by, …) are not here, so that "to Rome" and "from Rome" differ.
FUNCTION: Final = words(
    """
        a an the some any to exact is are am be been being do does has have having there it its that and s so
        please really actually exactly just also very ever personally basically truly currently nowadays
        presently thanks thank kindly
        """
)
# They only link two words, unless they follow a form of "be": what is in it is not what it is.
LINKS: Final = words("of in on at for")
COPULAS: Final = words("is are am was were be")
PERSONS: Final[dict[str, str]] = {
    **dict.fromkeys(words("i me my mine we us our ours one"), "i"),
    **dict.fromkeys(words("you your yours"), "you"),
}
# After "how do you" these ask about the one who is addressed; all others ask how anybody does it.
PERSONAL: Final = words(
    """
        feel think work look like live sleep function operate describe see view identify rate differ
        """
)
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
QUESTION_WORDS: Final[dict[str, str]] = {
    "what": "what", "which": "what", "who": "who", "whom": "who", "whose": "whose", "where": "where", "when": "when",
    "why": "why", "how": "how", "whether": "whether",
}  # fmt: skip

# Said before the question, they ask for an answer and add nothing.
OPENINGS: Final = tuple(
    tuple(line.split())
    for line in (
        "can you please tell me", "could you please tell me", "can you tell me", "could you tell me",
        "can anyone tell me", "can someone tell me", "can anybody tell me", "please tell me", "tell me",
        "can you please explain", "can you explain", "could you explain", "i want to know", "i would like to know",
        "i was wondering", "i wonder", "does anyone know", "does anybody know", "do you know", "do you happen to know",
        "please explain", "explain", "hi", "hello", "hey", "good morning", "excuse me", "please", "according to you",
        "in your opinion",
    )
)  # fmt: skip

MONTHS: Final[dict[str, str]] = {
    **{name: name for name in words(
        """
        january february march april may june july august september october november december
        """
    )},
    "jan": "january", "feb": "february", "mar": "march", "apr": "april", "jun": "june", "jul": "july", "aug": "august",
    "sep": "september", "sept": "september", "oct": "october", "nov": "november", "dec": "december",
}  # fmt: skip
DATES: Final = words(
    """
        monday tuesday wednesday thursday friday saturday sunday today yesterday tomorrow tonight weekend
        weekday morning afternoon evening night midnight noon spring summer autumn winter christmas easter
        thanksgiving halloween ramadan diwali now ago bc ad bce ce am pm daily weekly monthly yearly annual
        annually hourly nightly last next previous
        """
)
NUMBERS: Final[dict[str, str]] = {
    "zero": "0", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8",
    "nine": "9", "ten": "10",
    "eleven": "11", "twelve": "12", "thirteen": "13", "fourteen": "14", "fifteen": "15", "sixteen": "16",
    "seventeen": "17",
    "eighteen": "18", "nineteen": "19", "twenty": "20", "thirty": "30", "forty": "40", "fifty": "50", "sixty": "60",
    "seventy": "70",
    "eighty": "80", "ninety": "90", "dozen": "12", "half": "0.5", "quarter": "0.25", "twice": "2", "double": "2",
    "triple": "3", "once": "1",
}  # fmt: skip
ORDINALS: Final[dict[str, int]] = {
    "first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9,
    "tenth": 10,
}  # fmt: skip
SCALES: Final[dict[str, int]] = {
    "hundred": 10**2, "thousand": 10**3, "k": 10**3, "lakh": 10**5, "lakhs": 10**5, "lac": 10**5, "lacs": 10**5,
    "million": 10**6,
    "mn": 10**6, "crore": 10**7, "crores": 10**7, "billion": 10**9, "bn": 10**9, "trillion": 10**12, "hundreds": 10**2,
    "thousands": 10**3, "millions": 10**6, "billions": 10**9,
}  # fmt: skip
_UNITS = (
    "km kms kilometer kilometers kilometre kilometres|m meter meters metre metres|cm centimeter centimeters centimetre "
    "centimetres|mm millimeter millimeters millimetre millimetres|mile miles mi|ft foot feet|inch inches|yard yards|"
    "kg kgs kilo kilos kilogram kilograms kilogramme|g gram grams gramme grammes|mg milligram milligrams|lb lbs pound "
    "pounds|oz ounce ounces|ton tons|tonne tonnes|l liter liters litre litres|ml milliliter milliliters|gallon gallons|"
    "pint pints|cup cups|tablespoon tablespoons tbsp|teaspoon teaspoons tsp|celsius centigrade|fahrenheit|kelvin|"
    "degree degrees|"
    "second seconds sec secs|minute minutes min mins|hour hours hr hrs|day days|week weeks|month months|"
    "year years yr yrs|decade decades|century centuries|bit bits|byte bytes|kb kilobyte kilobytes|"
    "mb megabyte megabytes|"
    "gb gigabyte gigabytes|tb terabyte terabytes|kbps|mbps|gbps|hz hertz|khz|mhz megahertz|ghz gigahertz|w watt watts|"
    "kw kilowatt kilowatts|kwh|v volt volts|a amp amps ampere amperes|mah|ohm ohms|j joule joules|kj|"
    "cal calorie calories|"
    "kcal|pa pascal pascals|bar|psi|mph|kmh kph|percent percentage pct|percentile|"
    "$ dollar dollars usd|€ euro euros eur|"
    "£ gbp quid|¥ yen jpy|yuan rmb cny|₹ rs rupee rupees inr|won krw|ruble rubles|franc francs|peso pesos|cent cents|"
    "bitcoin bitcoins btc|acre acres|hectare hectares|radian radians"
)
UNITS: Final[dict[str, str]] = {word: group.split()[0] for group in _UNITS.split("|") for word in group.split()}
# Units that mean other things without a number in front of them.
UNITS_BEHIND_NUMBERS: Final = words(
    """
        m mi g l a w v j bar cal cup cups foot second min won pa rs sec kilo bit bits
        """
)

# In capitals they name something; in small letters they are ordinary words.
ACRONYM_OR_WORD: Final = words(
    """
        it us net cat who aids sat act art pet cad map may pin ram rest led gap ace are can he in is me or so to
        we am be do go no on as at by if of up an any all was
        """
)

# Words that differ in number only by mistake of the rules, or mean another thing with an s.
NO_PLURAL: Final = words(
    """
        news us its this his series species physics mathematics economics politics statistics ethics gas bus yes
        always lens ios aws sms gps os windows paris texas glasses customs arms goods means shorts jeans pants
        means towards perhaps across plus less unless process business class address access success does was has
        is as various famous serious mars atlas canvas christmas athletics gymnastics electronics mechanics jobs
        itself works looks woods savings earnings times spirits stairs
        """
)
IRREGULAR: Final[dict[str, str]] = {
    "people": "person", "men": "man", "women": "woman", "children": "child", "kids": "child", "kid": "child",
    "mice": "mouse",
    "teeth": "tooth", "geese": "goose", "wives": "wife", "lives": "life", "leaves": "leaf", "knives": "knife",
    "phobias": "phobia", "criteria": "criterion", "phenomena": "phenomenon", "indices": "index", "potatoes": "potato",
    "tomatoes": "tomato", "heroes": "hero", "movies": "movie", "cookies": "cookie", "ties": "tie", "lies": "lie",
    "pies": "pie", "calories": "calorie", "zombies": "zombie", "axes": "axis", "shoes": "shoe", "toes": "toe",
    "becoming": "become", "creating": "create", "having": "have", "coming": "come", "dying": "die", "lying": "lie",
    "tying": "tie",
}  # fmt: skip
NO_GERUND: Final = words(
    """
        thing king ring sing bring string spring wing sling sting swing cling fling during nothing something
        anything everything morning evening wedding ceiling sibling darling sterling beijing boeing bling viking
        ping bing xing building meeting meaning being feeling housing clothing earring shilling
        """
)
# One word for them where something is asked for, not where something is judged.
PRAISE: Final = words("best good great greatest top finest")
# May stand elsewhere in the sentence without changing what it asks.
UNORDERED: Final = words("best favorite mean")
