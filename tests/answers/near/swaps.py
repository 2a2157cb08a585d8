"""Pairs of questions that differ in one thing that matters: the wrong hits that similarity alone does not stop.

Made from templates and lists that the guards' own word lists were not written from. Every pair asks for two different
answers; `Swap.kind` says in what they differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from answers.near.swaps_of_small_things import one_sign_swaps


@dataclass(frozen=True, slots=True)
class Swap:
    """A kept question, and one that must not be given its answer."""

    kind: str
    language: str
    kept: str
    asked: str


ENTITIES_EN = (
    ("What is the capital of {}?",
    "Norway Portugal Chad Peru Laos Kenya Oman Cuba Niger Nigeria Guinea Guyana Austria Australia"),
    ("Who founded {}?", "Nvidia Siemens Toyota Spotify Lego Nestle"),
    ("how do i sort a list in {}", "python java javascript rust haskell kotlin perl c c++ c#"),
    ("Is {} good for the skin?", "honey vinegar turmeric lemon coffee"),
    ("How long does it take to boil {}?", "eggs potatoes rice pasta lentils"),
    ("What are the symptoms of {}?",
    "malaria cholera measles asthma gout hypertension hypotension hepatitis-A hepatitis-B"),
    ("Can dogs eat {}?", "grapes carrots onions cheese bread plums mushrooms"),
    ("What does a {} cost?", "violin drum trumpet cello harp flute tuba"),
    ("Where is the {} museum?", "Louvre Prado Hermitage Rijks Uffizi Tate"),
    ("Tell me how I can get from the airport to {}", "Shibuya Heathrow Montmartre Kreuzberg"),
    ("What is the boiling point of {}?", "ethanol acetone mercury benzene"),
    ("How do I train for a {}?", "marathon triathlon decathlon"),
)  # fmt: skip
ENTITIES_ZH = (
    ("{}的首都是哪里？", "挪威 秘鲁 古巴 肯尼亚 老挝 阿曼 尼日尔 尼日利亚 几内亚 圭亚那"),
    ("怎么做{}？", "红烧肉 宫保鸡丁 麻婆豆腐 糖醋排骨 小笼包 红烧鱼 鱼香肉丝"),
    ("{}是谁写的？", "红楼梦 西游记 水浒传 围城 活着"),
    ("狗能吃{}吗？", "葡萄 洋葱 胡萝卜 奶酪"),
    ("{}有什么症状？", "感冒 肺炎 痛风 哮喘 胃炎"),
    ("从机场到{}怎么走？", "西湖 外滩 天安门 宽窄巷子"),
    ("如何学习{}？", "钢琴 小提琴 书法 游泳 编程"),
    ("{}的人口有多少？", "成都 武汉 青岛 厦门 昆明 南京 南昌 南宁"),
)  # fmt: skip
NUMBERS_EN = (
    ("What is {} plus 17?", "3 4 13 30 3.5 33 300"),
    ("How do I lose {} pounds in a month?", "5 10 15 50 51"),
    ("What happened in {}?", "1914 1939 1941 1989 2001 1914-1918 1988"),
    ("Is {} a prime number?", "7 17 27 71 171 12345678901234567 12345678901234568"),
    ("Which phone is the best under {} dollars?", "200 250 2000 500"),
    ("What is chapter {} about?", "2 3 12 21"),
    ("How do I divide a cake into {} pieces?", "six seven eight 9"),
    ("What is {}% of 80?", "5 15 50 0.5"),
    ("Convert {} to binary", "10 11 100 1.1 -10"),
    ("What was the {} song of the Beatles?", "1st second 3rd tenth"),
    ("Can I install version {} on my phone?", "3.1 3.10 3.11 13.1"),
)  # fmt: skip
NUMBERS_ZH = (
    ("{}加十七等于多少？", "三 四 十三 三十 3.5 三百 三万"),
    ("如何在一个月内减{}斤？", "5 10 15 五十"),
    ("{}年发生了什么？", "1914 1937 1949 1978 2008 1988"),
    ("{}块钱以下哪个手机最好？", "1000 1500 10000 3000"),
    ("第{}章讲什么？", "二 三 十二 二十"),
    ("{}岁的孩子能喝咖啡吗？", "3 5 8 十三"),
)  # fmt: skip
UNITS_EN = (
    ("How far is 30 {}?", "km miles meters feet"),
    ("How much is 5 {} of sugar?", "grams kg ounces pounds cups"),
    ("Is 90 {} too hot?", "celsius fahrenheit"),
    ("What is 100 {} in euros?", "dollars yen rupees pounds"),
    ("How do I wait 10 {} in a script?", "seconds minutes hours days"),
    ("What can I do with 8 {} of memory?", "GB MB TB KB"),
    ("What is the speed of light in {}?", "km miles"),
    ("How tall is the tower in {}?", "feet meters yards"),
    ("How much salt is in 2 {} of water?", "liters gallons cups"),
    ("Can a truck carry 7 {}?", "tons pounds kg"),
    ("How long is a rope of 12 {}?", "feet inches yards cm mm"),
    ("How many steps is 1.5 {}?", "miles km"),
    ("Is a 20 {} battery enough?", "watt volt mAh"),
)  # fmt: skip
UNITS_ZH = (
    ("30{}有多远？", "公里 英里 米"),
    ("5{}糖是多少？", "克 公斤 斤 磅"),
    ("100{}等于多少欧元？", "美元 日元 元 英镑"),
    ("等10{}要多久？", "秒 分钟 小时 天"),
    ("2{}水里有多少盐？", "升 毫升 加仑"),
    ("90{}太热吗？", "摄氏度 华氏度"),
)  # fmt: skip
DATES_EN = (
    ("What is the weather like in {}?", "March June October spring autumn"),
    ("What is open on {}?", "Monday Friday Sunday Christmas Thanksgiving"),
    ("What should I do {}?", "today tomorrow tonight"),
    ("Who won the match {}?", "yesterday today"),
    ("Is the shop open at {}?", "noon midnight night"),
)  # fmt: skip
DATES_ZH = (
    ("{}天气怎么样？", "今天 明天 昨天 周末"),
    ("{}去哪里玩好？", "春天 夏天 国庆 春节"),
    ("{}开门吗？", "星期一 星期五 周日"),
    ("{}能跑步吗？", "早上 中午 晚上"),
)  # fmt: skip
# Each with the places in it where the two things stand.
ORDERS_EN = (
    ("Is a {0} faster than a {1}?", "cheetah greyhound|train bus|falcon hawk"),
    ("Does {0} cause {1}?", "stress insomnia|poverty crime|smoking depression"),
    ("Why do {0} hate {1}?", "cats dogs|Romans Carthaginians|crows owls"),
    ("How do I convert {0} to {1}?", "PDF Word|euros dollars|YAML JSON|miles kilometers"),
    ("How do I get from {0} to {1}?", "Lyon Paris|Delhi Agra|Oslo Bergen"),
    ("Who sold {0} to {1}?", "Alaska America|Instagram Facebook"),
    ("Can a {0} adopt a {1}?", "citizen foreigner|widow orphan"),
    ("{0} vs {1}: which wins?", "Tyson Ali|MySQL Postgres|tiger lion"),
    ("Which is heavier, {0} or {1}?", "gold lead|oil water"),
    ("Should I eat {0} before {1}?", "breakfast running|lunch swimming"),
    ("What happens when a {0} bites a {1}?", "dog snake|man dog"),
    ("How did {0} defeat {1}?", "Greece Persia|Prussia Austria"),
    ("Why did {0} leave {1} for her sister?", "Paul Mary|Tom Anna"),
    ("Translate from {0} into {1}", "French German|Thai Korean"),
    ("How many {0} make one {1}?", "ounces pound|cents dollar"),
    ("Did {0} sue {1} or was it settled?", "Apple Samsung|Oracle Google"),
    ("How do I merge {0} into {1}?", "develop main|staging production"),
    ("Why does {0} owe {1} money?", "Greece Germany|Sudan Kenya"),
    ("What did {0} teach {1}?", "Plato Aristotle|Socrates Plato"),
    ("Is {0} the father of {1}?", "Abraham Isaac|Philip Alexander"),
    ("Can {0} be replaced by {1} in a cake?", "butter oil|sugar honey|milk cream"),
    ("I do {0} and I want to learn {1}, is it hard?", "law medicine|physics biology"),
)  # fmt: skip
ORDERS_ZH = (
    ("{0}比{1}快吗？", "猎豹 灰狗|火车 汽车|猎鹰 老鹰"),
    ("{0}会导致{1}吗？", "压力 失眠|贫穷 犯罪"),
    ("怎么把{0}转换成{1}？", "PDF Word|欧元 美元|英里 公里"),
    ("从{0}到{1}怎么走？", "北京 天津|上海 苏州|成都 重庆"),
    ("{0}为什么讨厌{1}？", "猫 狗|乌鸦 猫头鹰"),
    ("{0}怎么打败{1}的？", "希腊 波斯|刘邦 项羽"),
    ("{0}和{1}哪个先出现？", "鸡 蛋|文字 纸"),
    ("{0}欠{1}多少钱？", "小王 小李|公司 员工"),
    ("{0}是{1}的老师吗？", "柏拉图 亚里士多德|孔子 颜回"),
    ("能用{0}代替{1}吗？", "黄油 植物油|白糖 蜂蜜"),
    ("{0}先于{1}发明吗？", "火药 纸|电话 电灯"),
    ("吃{0}前能吃{1}吗？", "药 饭|早饭 水果"),
)  # fmt: skip
NEGATIONS_EN = (
    ("Should I {}?", "Should I not {}?", "quit my job|drink milk|trust my boss|reboot the router"),
    ("Why do people {}?", "Why don't people {}?", "vote|read books|like snakes|move to cities"),
    ("Can I travel with a {}?", "Can I travel without a {}?", "visa|passport|dog|ticket"),
    ("Which foods contain {}?", "Which foods do not contain {}?", "gluten|lactose|iron|sugar"),
    ("Is it safe to {}?", "Is it unsafe to {}?", "swim here|eat raw fish|take the pill"),
    ("Why am I {}?", "Why am I not {}?", "gaining weight|sleeping|growing|sweating"),
    ("How do I {} automatic updates?", "How do I disable {} automatic updates?", "get|allow|plan"),
    ("What should I {} at an interview?", "What should I never {} at an interview?", "say|wear|bring|ask"),
    ("Who can {}?", "Who cannot {}?", "donate blood|vote|fly|get a loan"),
    ("Is the {} legal?", "Is the {} illegal?", "drug|strike|weapon|import"),
    ("Which animals {}?", "Which animals never {}?", "sleep|drink|hibernate|sweat"),
    ("Is there {} on Mars?", "Is there no {} on Mars?", "water|life|ice|wind"),
    ("Did the {} pass?", "Didn't the {} pass?", "law|test|train|exam"),
    ("When do I need {}?", "When do I not need {}?", "a lawyer|insurance|a visa|a permit"),
    ("Which cars have {}?", "Which cars have no {}?", "airbags|sensors|radios"),
    ("How do I live with {}?", "How do I live without {}?", "pain|debt|a phone|sugar"),
    ("Is {} reversible?", "Is {} irreversible?", "damage|aging|hair loss"),
    ("Are {} dangerous?", "Aren't only {} dangerous?", "sharks|drones|vaccines"),
    ("Do all birds {}?", "Do only birds {}?", "fly|sing|lay eggs"),
)  # fmt: skip
NEGATIONS_ZH = (
    ("我应该{}吗？", "我不应该{}吗？", "辞职|喝牛奶|相信老板|重启路由器"),
    ("人们为什么{}？", "人们为什么不{}？", "投票|读书|喜欢蛇|搬到城市"),
    ("有{}可以旅行吗？", "没有{}可以旅行吗？", "签证|护照|钱"),
    ("哪些食物含{}？", "哪些食物不含{}？", "麸质|乳糖|铁|糖"),
    ("这里{}安全吗？", "这里{}不安全吗？", "游泳|露营|停车"),
    ("我为什么{}？", "我为什么没{}？", "长胖|睡着|出汗"),
    ("怎样才能{}？", "怎样才能不{}？", "长胖|迟到|做梦|出汗"),
    ("哪些动物{}？", "哪些动物从不{}？", "睡觉|喝水|冬眠"),
    ("谁能{}？", "谁不能{}？", "献血|投票|贷款"),
    ("{}合法吗？", "{}非法吗？", "赌博|罢工|进口"),
)  # fmt: skip
DIRECTIONS_EN = (
    ("How do I turn {} the light?", "on off"),
    ("How do I go {} the stairs?", "up down"),
    ("How can I {} my weight?", "increase reduce"),
    ("How do I {} a file to the server?", "upload download"),
    ("Is it better to {} a house now?", "buy sell rent"),
    ("How do I {} the window?", "open close"),
    ("Do I turn {} at the church?", "left right"),
    ("How do I {} a program?", "install uninstall"),
    ("What comes {} the wedding?", "before after"),
    ("Are there flights {} Rome?", "to from"),
    ("Who voted {} the law?", "for against"),
    ("How do I {} money from a friend?", "borrow lend"),
    ("How do I {} the account?", "lock unlock"),
    ("What is the {} temperature of the sun?", "maximum minimum"),
    ("Who was the {} king of Egypt?", "first last"),
    ("Which is the {} city of India?", "largest smallest"),
    ("What are the {} of nuclear power?", "advantages disadvantages"),
    ("How do I {} an image?", "compress decompress"),
    ("How do I {} the text?", "encrypt decrypt"),
    ("Is it {} than yesterday?", "hotter colder"),
    ("How do I {} the volume?", "raise lower"),
    ("Which country {} the most oil?", "imports exports"),
    ("How do I {} someone on the phone?", "block unblock"),
    ("How do I {} an invitation?", "accept decline"),
    ("Should water be {} for tea?", "hot cold"),
    ("What lies {} of Spain?", "north south east west"),
    ("Who {} the race?", "won lost"),
    ("Is the tank {}?", "full empty"),
)  # fmt: skip
DIRECTIONS_ZH = (
    ("怎么{}灯？", "开 关"), ("怎么{}体重？", "增加 减少"), ("怎么{}文件？", "上传 下载"), ("现在{}房子好吗？",
    "买 卖"),
    ("怎么{}窗户？", "打开 关闭"), ("到教堂往{}转吗？", "左 右"), ("怎么{}程序？", "安装 卸载"), ("结婚{}要做什么？",
    "前 后"),
    ("谁{}这个法律？", "支持 反对"), ("怎么向朋友{}钱？", "借 还"), ("太阳的{}温度是多少？", "最高 最低"),
    ("埃及的{}国王是谁？", "第一个 最后一个"), ("印度{}的城市是哪个？", "最大 最小"), ("核电的{}是什么？", "优点 缺点"),
    ("怎么{}音量？", "提高 降低"), ("哪个国家{}石油最多？", "进口 出口"), ("怎么{}文字？", "加密 解密"),
    ("{}的路怎么走？", "上山 下山"),
)  # fmt: skip
QUESTIONS_EN = (
    ("{} was the bridge built?", "When Where Why How"),
    ("{} did she marry?", "Who When Why Where"),
    ("{} does it rain in India?", "When Where Why"),
    ("How {} is the river?", "long deep wide old"),
    ("{} I sell my car?", "Can Should Must How-do Why-should"),
    ("Who {} the president of France?", "is was will-be"),
    ("How {} sugar do I need?", "much many"),
    ("{} do penguins live?", "Where How-long Why How"),
    ("{} did the war begin?", "When Where Why How"),
)  # fmt: skip
QUESTIONS_ZH = (
    ("桥是{}建的？", "什么时候 在哪里 谁 为什么"), ("她{}结婚？", "什么时候 在哪里 和谁 为什么"), ("这条河有{}？",
    "多长 多深 多宽"),
    ("我{}卖车？", "能不能 该不该 怎么 为什么"),
)  # fmt: skip


def all_swaps() -> list[Swap]:
    """Every pair once, in one of its two directions."""
    found: dict[frozenset[str], Swap] = {}
    for swap in (*_filled(), *_ordered(), *_negated(), *(Swap(*fields) for fields in one_sign_swaps())):
        if swap.kept != swap.asked:
            found.setdefault(frozenset((swap.kept, swap.asked)), swap)
    return list(found.values())


def _filled() -> Iterator[Swap]:
    tables = (
        ("entity", ENTITIES_EN, ENTITIES_ZH), ("number", NUMBERS_EN, NUMBERS_ZH), ("unit", UNITS_EN, UNITS_ZH),
        ("date", DATES_EN, DATES_ZH), ("direction", DIRECTIONS_EN, DIRECTIONS_ZH),
        ("question", QUESTIONS_EN, QUESTIONS_ZH),
    )  # fmt: skip
    for kind, *by_language in tables:
        for language, templates in zip(("en", "zh"), by_language, strict=True):
            for template, words in templates:
                for one, other in combinations(
                    (word.replace("-", " ") if kind == "question" else word for word in words.split()), 2
                ):
                    yield Swap(kind, language, template.format(one), template.format(other))


def _ordered() -> Iterator[Swap]:
    for language, templates in (("en", ORDERS_EN), ("zh", ORDERS_ZH)):
        for template, pairs in templates:
            for pair in pairs.split("|"):
                one, other = pair.split()
                yield Swap("order", language, template.format(one, other), template.format(other, one))


def _negated() -> Iterator[Swap]:
    for language, templates in (("en", NEGATIONS_EN), ("zh", NEGATIONS_ZH)):
        for plain, negated, things in templates:
            for thing in things.split("|"):
                yield Swap("negation", language, plain.format(thing), negated.format(thing))
