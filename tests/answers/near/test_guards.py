from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miaotui.answers.near.chinese_numbers import value_of
from miaotui.answers.near.guards import verdicts
from miaotui.answers.near.reading import read

SAME = [
    ("What is the best way to learn chess?", "How can I learn chess?"),
    ("Which is the best way to learn chess?", "What are some ways to learn chess?"),
    ("Who is the founder of Tata?", "Who is founder of Tata?"),
    ("How does the stock market work?", "How does stock market work?"),
    ("Which is the best book on chess?", "What is the best book on chess?"),
    ("What is a black hole?", "What is black hole?"),
    ("How do you calculate the area of a circle?", "How can I calculate the area of a circle?"),
    ("What are the differences between bees and wasps?", "What is the difference between wasps and bees?"),
    ("What kind of music do you like?", "What type of music do you currently like?"),
    ("Is honey really good for you?", "Is honey good for you?"),
    ("How can I earn money online?", "How can I make money online?"),
    ("What are some of the best films?", "What are the best films?"),
    ("How do I learn Python?", "how can i learn Python"),
    ("What is the population of Paris?", "what is the population of paris"),
    ("Hello, how do I reset my password? Thanks", "How can I reset my password?"),
    ("How to open the door", "How do I open the door?"),
    ("What is the capital of the US?", "What's the capital of the United States?"),
    ("How do I delete questions on Quora?", "How can one delete question on Quora?"),
    ("What are the questions?", "what are the questions"),
    ("What is 10k dollars in euros?", "what's $10,000 in euros"),
    ("Is ten thousand enough?", "Is 10,000 enough?"),
    ("How far is 5 km?", "How far is five kilometers?"),
    ("What was it like in the 1980's?", "What was it like in the 1980s?"),
    ("Why don't cats like water?", "Why do not cats like water?"),
    ("Could you please tell me how I can reset my password?", "How do I reset my password?"),
    ("What is the difference between a liberal and a progressive?",
     "What's the difference between a progressive and a liberal?"),
    ("What does recursion mean?", "What is the meaning of recursion?"),
    ("Which cell phone is good?", "Which cellphone is good?"),
    ("What colour is a violet?", "What color is a violet?"),
    ("How much is １２ ｋｍ？", "How much is 12 km?"),
    ("请问，如何学习 Python 呢？", "怎么学习Python"),
    ("一百二十公里有多远", "120km有多远？"),
    ("今天天气怎么样呀", "今天天气怎么样？"),
    ("能不能用手机登录", "能用手机登录吗？"),
    ("为什么天空是蓝色的？", "为啥天空是蓝色的"),
    ("我们周一去哪儿", "我们周一去哪里？"),
    ("你好，二〇一六年发生了什么？谢谢", "2016年发生了什么？"),
    ("Wie alt ist Berlin?", "Wie  alt ist Berlin"),
]  # fmt: skip

DIFFERENT = [
    ("numbers", "What is 2 plus 2?", "What is 2 plus 3?"),
    ("numbers", "Is 3.10 newer than 3.9?", "Is 3.1 newer than 3.9?"),
    ("numbers", "Who is agent 007?", "Who is agent 7?"),
    ("numbers", "Is -5 enough?", "Is 5 enough?"),
    ("numbers", "Who came first?", "Who came third?"),
    ("numbers", "Call 12345678901234567", "Call 12345678901234568"),
    ("units", "How long is 10 km?", "How long is 10 miles?"),
    ("units", "Is 20% enough?", "Is 20 enough?"),
    ("dates", "What happens in May 2020?", "What happens in June 2020?"),
    ("dates", "What did he do yesterday?", "What did he do today?"),
    ("names", "Who runs NET management?", "Who runs net management?"),
    ("names", "Where is IT sold?", "Where is it sold?"),
    ("names", "What do people eat in Chad?", "What do people eat in Oman?"),
    ("negation", "Why do I sleep?", "Why don't I sleep?"),
    ("negation", "I like tea but not coffee", "I like not tea but coffee"),
    ("negation", "Is it legal?", "Is it illegal?"),
    ("negation", "How do I turn on the TV?", "How do I turn off the TV?"),
    ("order", "Do dogs chase cats?", "Do cats chase dogs?"),
    ("order", "flights from Rome to Paris", "flights from Paris to Rome"),
    ("order", "Which is better, MBA or CA?", "Which is better, CA or MBA?"),
    ("order", "Is the cat in the hat?", "Is the hat in the cat?"),
    ("question", "When was Rome built?", "Where was Rome built?"),
    ("question", "How long is the bridge?", "How old is the bridge?"),
    ("question", "Is he the king?", "Was he the king?"),
    ("question", "Can I sell it?", "Should I sell it?"),
    ("question", "Can bees sting?", "How can bees sting?"),
    ("question", "What do you want?", "What do I want?"),
    ("question", "Does he love me?", "Will he love me?"),
    ("words", "Why do women shave?", "Why do women shave legs?"),
    ("words", "What is a neutrino?", "What is an electron neutrino?"),
    ("words", "What is in catnip?", "What is catnip?"),
    ("words", "flights to Rome", "flights from Rome"),
    ("words", "Is C faster than Java?", "Is C++ faster than Java?"),
    ("words", "What does ➰ mean?", "What does it mean?"),
    ("code", "What does `x = 1` do?", "What does `x == 1` do?"),
    ("code", 'Is "ain\'t" a word?', 'Is "amn\'t" a word?'),
    ("code", "What is on https://a.example/B?", "What is on https://a.example/b?"),
    ("language", "Wie alt ist Berlin?", "How old is Berlin?"),
    ("language", "How do I learn Python?", "怎么学Python？"),
    ("code", "What does ??? mean?", 'What does "???" mean?'),
    ("words", "Sind Sie krank?", "Sind sie krank?"),
    ("words", "Was sind Maße?", "Was sind Masse?"),
    ("names", "How do I remove Rust?", "how do i remove rust"),
    ("numbers", "How much is 12,18?", "How much is 1218?"),
    ("numbers", "三千五是多少", "三千零五是多少"),
    ("units", "Is 5 mW enough?", "Is 5 MW enough?"),
    ("dates", "今天开门吗", "明天开门吗"),
    ("negation", "我应该去吗？", "我不应该去吗？"),
    ("order", "猫比狗聪明吗？", "狗比猫聪明吗？"),
    ("numbers", "三年有多少天？", "四年有多少天？"),
    ("question", "他什么时候来？", "他为什么来？"),
    ("words", "申请怎么写？", "申怎么写？"),
]


@pytest.mark.parametrize(("asked", "kept"), SAME)
def test_the_same_question_in_other_words_passes_every_guard(asked: str, kept: str) -> None:
    assert {name: why for name, why in verdicts(read(asked), read(kept)).items() if why} == {}


@pytest.mark.parametrize(("guard", "asked", "kept"), DIFFERENT)
def test_another_question_is_refused_by_the_guard_it_is_for(guard: str, asked: str, kept: str) -> None:
    for one, other in ((asked, kept), (kept, asked)):
        assert verdicts(read(one), read(other))[guard]


KEPT = "How do I reset my password?"
SMALL_WORDS = [
    "how", "do", "i", "not", "learn", "the", "5", "km", "of", "in", "US", "it", "May", "what", "is", "Paris", "to",
    "from",
    "3.10", "you", "my", "on", "off",
]  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=60),
    st.text(alphabet="abno t'#+.-0123456789%$不没的了吗几百十万公里我你", max_size=40),
    st.lists(st.sampled_from(SMALL_WORDS), max_size=9).map(" ".join),
)  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "hi " * 333, "a." * 500, '"' * 1000, "“" * 500 + "a" * 499, "1,11" * 250, "我不我" * 333, "一" * 1000,
        "a of " * 200,
        "\ud800" * 1000, "`" * 1000, "how " * 250, "difference between " + "a b " * 240, "[" * 1000, "\0" * 1000,
    ],
    ids=lambda text: ascii(text[:12]),
)  # fmt: skip
def test_a_hostile_question_is_compared_like_any_other(text: str) -> None:
    assert verdicts(read(text), read(KEPT))["words"]
    assert not verdicts(read(text), read(text))["words"]


@given(text=TEXTS)
def test_a_question_passes_with_itself_unless_it_has_no_words(text: str) -> None:
    refusals = {name for name, why in verdicts(read(text), read(text)).items() if why}
    assert refusals == (set() if read(text).terms else {"language"})


@pytest.mark.parametrize(
    ("written", "value"),
    [("一百二十", "120"), ("十", "10"), ("三千零五", "3005"), ("两万", "20000"), ("一万零二十", "10020"),
     ("二〇一六", "2016"), ("三千五", None), ("一万二", None), ("一百五", None), ("三四", None), ("七八", None),
     ("一百零", None), ("百", None), ("一千二十", None), ("五" * 17, None)],
)  # fmt: skip
def test_a_chinese_number_that_can_be_read_in_two_ways_is_none(written: str, value: str | None) -> None:
    assert value_of(written) == value


@given(value=st.integers(1, 10**8 - 1))
def test_a_chinese_number_written_in_full_is_read_back(value: int) -> None:
    signs, rest = "零一二三四五六七八九", str(value).zfill(8)

    def section(digits: str) -> str:
        pairs = zip(digits, ("千", "百", "十", ""), strict=True)
        text = "".join(signs[int(d)] + scale if d != "0" else "零" for d, scale in pairs).rstrip("零")
        while "零零" in text:
            text = text.replace("零零", "零")
        return text

    high, low = section(rest[:4]).lstrip("零"), section(rest[4:])
    written = (high + "万" if high else "") + (low if high else low.lstrip("零"))
    assert value_of(written) == str(value)


@given(one=TEXTS, other=TEXTS)
def test_guards_do_not_care_which_of_two_questions_was_kept(one: str, other: str) -> None:
    there, back = verdicts(read(one), read(other)), verdicts(read(other), read(one))
    assert any(there.values()) == any(back.values())


@given(one=st.integers(-(10**20), 10**20), other=st.integers(-(10**20), 10**20))
def test_two_numbers_are_never_taken_for_each_other(one: int, other: int) -> None:
    said = verdicts(read(f"Is {one} prime?"), read(f"Is {other} prime?"))
    assert bool(said["numbers"]) == (one != other)


FORMULAS = st.text(alphabet="0123456789.,-–+!²³⁶'\"/*()^½% x", min_size=1, max_size=9)


@given(one=FORMULAS, other=FORMULAS)
def test_two_formulas_pass_only_if_they_are_written_with_the_same_signs(one: str, other: str) -> None:
    def signs(text: str) -> str:
        return "".join(re.sub(r"(?<![\d.,])([1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?)(?![\d.,])", ungrouped, text).split())

    said = verdicts(read(f"What is {one} worth?"), read(f"What is {other} worth?"))
    if not any(said.values()):
        assert signs(one) == signs(other)


@given(number=st.integers(1, 10**15), digits=st.integers(0, 99))
def test_a_number_is_read_alike_in_groups_of_three_and_in_words_of_scale(number: int, digits: int) -> None:
    plain = f"Is {number} enough?"
    assert not any(verdicts(read(f"Is {number:,} enough?"), read(plain)).values())
    for change in ("{},{:02}", "{}.{:02}", "{}{:02}!", "{}²", "-{}", "{} million", "{}{:02}"):
        other = f"Is {change.format(number, digits)} enough?"
        assert any(verdicts(read(other), read(plain)).values()), other


def ungrouped(match: re.Match[str]) -> str:
    return match[1].replace(",", "")
