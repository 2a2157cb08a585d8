"""Pairs that differ in what is easily lost on the way: a capital, a small word, a sign, a Chinese character.

Every pair asks for two different answers. `REGRESSIONS` were once taken for the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise, product

Fields = tuple[str, str, str, str]


def words(text: str) -> list[str]:
    """In their order."""
    return text.split()


REGRESSIONS = """
How many MB is 8 Mb?|How many Mb is 8 MB?
Is 5 mW much?|Is 5 MW much?
Is a 3 M solution strong?|Is a 3 m solution strong?
Is 5 mg much?|Is 5 Mg much?
What does git branch -d do?|What does git branch -D do?
What does ssh -l do?|What does ssh -L do?
What does tar -c do?|What does tar -C do?
How do I remove Rust?|how do I remove rust?
How do I clean Ruby?|How do I clean ruby?
Is Turkey healthy?|is turkey healthy?
How do I open Windows?|How do I open windows?
Polish hams|polish hams
Which banks have been sued for fraud?|Which banks have sued for fraud?
How do I connect to a remote MySQL server?|How do I connect a remote MySQL server?
How do I upgrade to the latest version of iOS?|How do I upgrade the latest version of iOS?
How do I migrate to a PostgreSQL database?|How do I migrate a PostgreSQL database?
Has my landlord been sued?|Has my landlord sued?
Which banks do I owe?|Which banks owe me?
Who should I pay?|Who should pay me?
What causes it?|What does it cause?
What does aspirin do?|What is aspirin?
Is she a problem?|Does she have a problem?
How do I prepare for an exam?|How do I prepare an exam?
How do I sort a list in R?|How do I sort a list?
What is hepatitis A?|What is hepatitis?
What is the price of a Model S?|What is the price of a model?
What time did the war end?|What year did the war end?
What is the mean temperature?|What does temperature mean?
What is a top speed?|What is a good speed?
How do I write a mail?|How do I write an email?
How do I fill in an application?|How do I fill in an app?
How do I show a window?|How do I display a window?
How do I sort cards?|How do I type cards?
What is an instance of a class?|What is an example of a class?
Where is America?|Where is the USA?
What is the purpose of inflation?|What is the reason for inflation?
How much is a double room?|How much are two rooms?
What does the rapist do?|What does therapist do?
What is the matter?|What is matter?
What is the time?|What is time?
Was the bank robbed?|Was a bank robbed?
How do I deal with the boss?|How do I deal with a boss?
What is out of the question?|What is out of question?
Who took the place of John?|Who took place of John?
Which is it?|What is it?
Which are you?|What are you?
Which is the dog?|What is the dog?
How do you store data?|How do I store data?
How do you work?|How do I work?
How do you cure your dog?|How do I cure your dog?
Is he really not dead?|Is he not really dead?
Do the most people vote?|Do most people vote?
What are the best ways?|How?
Who was the first wife of Henry?|Who was first wife of Henry?
What is the best way to go?|What is the best way?
Why do a few people vote?|Why do few people vote?
How do I swim?|Do you know how to swim?
How do you store data?|How do I store data?
What is damage?|What are damages?
Who needs not pay?|Who must not pay?
What are the best PlayStation games?|What are the best playstations for gaming?
Who is the man?|Who are the men?
Where is my dog?|Where are my dogs?
Who knows the most people?|Who knows most people?
What is part of a car?|What is the part of a car?
How do I look?|How to look?
What is i?|What is I?
How do I spell colour?|How do I spell color?
Is login one word?|Is log in one word?
How do I write five?|How do I write 5?
What is 5²?|What is 52?
What is 10⁶?|What is 106?
What is 5!?|What is 5?
What is –5 + 3?|What is 5 + 3?
What is the derivative of -x?|What is the derivative of x?
What is x/y?|What is x-y?
What does !x mean?|What does x mean?
Where is 12,18?|Where is 1218?
How much is 1,50 euros in dollars?|How much is 150 euros in dollars?
Is 12" enough?|Is 12' enough?
What is 2 + 3 * 4?|What is (2 + 3) * 4?
三怎么写？|3怎么写？
怎么读一百二十？|怎么读120？
谢谢用英语怎么说？|你好用英语怎么说？
你喜欢谁？|谁喜欢你？
你怕谁|谁怕你
三千五是多少|三千零五是多少
一万二是多少|一万零二是多少
一百五是多少|一百零五是多少
5月有多长？|5个月有多长？
3月有多少天|3个月有多少天
谁欠我钱|我欠谁钱
三四个人够吗|34个人够吗
七八岁能去吗|78岁能去吗
10日能到吗|10天能到吗
这是谁的|这是谁
你去没去|你去不去
她是谁？|他是谁？
请问用英语怎么说？|用英语怎么说？
"""

UNITS = "mW MW|Mb MB|Gb GB|mg Mg|m M|kb kB|mV MV|mHz MHz|pF PF|mm Mm|l L|k K|s S|c C|f F|g G"
ABOUT_UNITS = ("How much is 5 {}?", "is 20 {} enough for me", "What is the price of 100 {}?", "Can I measure 3 {}?")
COMMANDS = "git branch|ssh|tar|curl|ls|grep|sort|cp"
LETTERS = "dlcnrs"
NAMES = words(
    "Rust Ruby Turkey Windows Swift Apple China Chad Word Excel Access Oracle Amazon Shell Java Python "
    "Dart Mercury Jordan Go Visa Target Gap Galaxy Bush Trump Reading Nice Bath Cork March August Polish "
    "Who IT"
)
ABOUT_NAMES = ("How do I find {}?", "Is it good to have {} here?", "what about {} and children", "Why do we need {}?")
VERBS = words("sued hired paid trained audited cited blocked invited promoted reported moved watched")
THINGS = words("server router printer team bank school club lawyer doctor teacher company project")
SMALL_WORDS = (
    ("Has the {} been {verb}?", "Has the {} {verb}?"),
    ("Which {} is {verb}?", "Which {} has {verb}?"),
    ("Who {verb} the {}?", "Who was {verb} by the {}?"),
    ("How do I move to a {} they {verb}?", "How do I move a {} they {verb}?"),
    ("Is the {} I {verb} good?", "Is the {} that {verb} me good?"),
    ("Did you see my {} they {verb}?", "Did you see your {} they {verb}?"),
)
PERSONS = words("I you he she we they")
OBJECTS = words("me you him her us them")
BETWEEN = (
    ("Should {} pay?", PERSONS), ("Can {} sleep here?", PERSONS), ("What do people owe {}?", OBJECTS),
    ("Who likes {}?", OBJECTS), ("Where is {} car?", ["my", "your", "his", "her", "our", "their"]),
    ("Is the house {} Rome?", ["in", "near", "behind", "above", "below", "beyond"]),
    ("What comes {} the wall?", ["from", "to", "over", "under", "through", "with"]),
    ("{} this true?", ["Is", "Was", "Isn't", "Wasn't"]),
    ("Who {} a house?", ["is", "has", "had", "was", "does", "did"]),
    ("What did they say {} it?", ["about", "of", "to", "for", "with", "on"]),
    ("Which {} was it?", ["year", "day", "month", "hour", "city", "book"]),
    ("Show me {} example", ["an", "one", "any", "every", "another"]),
    ("Is this {} safe?", ["really", "very", "just", "also", "ever", "still"]),
    ("How do I prepare {} an exam?", ["for", "at", "without", "during", "after"]),
    ("What is vitamin {}?", ["A", "B", "C", "D", "E", "K", "a", "b", "c"]),
)  # fmt: skip
SIGNS = (
    ("What is {}²?", "What is {}2?"), ("What is {}³?", "What is {}3?"), ("What is {}!?", "What is {}?"),
    ("What is –{} + 3?", "What is {} + 3?"), ("What is -{} + 3?", "What is {} + 3?"),
    ("Where is {},18?", "Where is {}18?"), ('Is {}" enough?', "Is {}' enough?"), ("Is {}' enough?", "Is {} enough?"),
    ("What is 2 * {} + 1?", "What is 2 * ({} + 1)?"), ("What is {} / 4?", "What is {} * 4?"),
    ("What is {}^2?", "What is {}2?"), ("Is it ~{}?", "Is it {}?"), ("What is √{}?", "What is {}?"),
    ("What is {}/3?", "What is {}-3?"), ("What is {}½?", "What is {}1/2?"), ("What is {}.5?", "What is {}5?"),
)  # fmt: skip
NUMBERS = (2, 5, 7, 12, 25, 40, 64, 99, 128, 300)
MEANT_ZH = words("喜欢 怕 爱 恨 骂 等 帮 教 打 信 追 问")
PRONOUNS_ZH = ("{}是谁？", "你喜欢{}吗？", "{}在哪里？", "怎么找到{}？", "为什么{}不来？", "{}多大了？")
DIGITS_ZH = "二三四五六七八九"
SCALES_ZH = "百千万"


def one_sign_swaps() -> Iterator[Fields]:
    """(kind, language, kept, asked)."""
    for line in REGRESSIONS.strip().split("\n"):
        one, other = line.split("|")
        yield "regression", "zh" if any("\u3400" <= c <= "\u9fff" for c in line) else "en", one, other
    yield from _cases()
    yield from _small_words()
    for (one, other), number in product(SIGNS, NUMBERS):
        yield "sign", "en", one.format(number), other.format(number)
    yield from _chinese()


def _cases() -> Iterator[Fields]:
    for template, pair in product(ABOUT_UNITS, UNITS.split("|")):
        one, other = pair.split()
        yield "case", "en", template.format(one), template.format(other)
    for command, letter in product(COMMANDS.split("|"), LETTERS):
        template = f"What does {command} -{{}} do?"
        yield "case", "en", template.format(letter), template.format(letter.upper())
    for template, name in product(ABOUT_NAMES, NAMES):
        yield "case", "en", template.format(name), template.format(name.lower())


def _small_words() -> Iterator[Fields]:
    for number, (one, other) in enumerate(SMALL_WORDS):
        for at, thing in enumerate(THINGS):
            verb = VERBS[(at + number) % len(VERBS)]
            yield "small word", "en", one.format(thing, verb=verb), other.format(thing, verb=verb)
    for template, words in BETWEEN:
        for first, second in combinations(words, 2):
            yield "small word", "en", template.format(first), template.format(second)


def _chinese() -> Iterator[Fields]:
    for verb in MEANT_ZH:
        for person in "你我他":
            yield "person", "zh", f"{person}{verb}谁？", f"谁{verb}{person}？"
        yield "person", "zh", f"你{verb}没{verb}？", f"你{verb}不{verb}？"
    for template in PRONOUNS_ZH:
        for one, other in combinations("他她它你我", 2):
            yield "person", "zh", template.format(one), template.format(other)
    for scale, first, second in product(SCALES_ZH, DIGITS_ZH[::2], DIGITS_ZH[1::2]):
        yield "number", "zh", f"{first}{scale}{second}是多少？", f"{first}{scale}零{second}是多少？"
    for month in range(1, 13):
        yield "unit", "zh", f"{month}月有多少天？", f"{month}个月有多少天？"
        yield "unit", "zh", f"{month}日能到吗？", f"{month}天能到吗？"
    for at, (first, second) in enumerate(pairwise(DIGITS_ZH), 2):
        yield "number", "zh", f"{first}{second}个人够吗？", f"{at}{at + 1}个人够吗？"
        yield "number", "zh", f"{first}{second}岁能去吗？", f"{at}{at + 1}岁能去吗？"
    for one, other in combinations(["谢谢", "你好", "再见", "请问", "对不起", "您好"], 2):
        yield "person", "zh", f"{one}用英语怎么说？", f"{other}用英语怎么说？"
