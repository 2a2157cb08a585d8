"""Chinese words by what they do to a question's meaning. Data only; `chinese` says how they are used.

No character is left out of what is compared but for the few forms in `REWRITES`: what is missing here costs a hit or a
plainer reason, never a wrong one.
"""

from __future__ import annotations

import re
from typing import Final

from miaotui.answers.near.vocabulary import words

# Asked with: what they ask for.
QUESTIONS: Final[dict[str, str]] = {
    **dict.fromkeys(words("怎么 怎样 如何"), "how"),
    **dict.fromkeys(words("怎么样 怎么看"), "how good"),
    "怎么办": "what to do",
    **dict.fromkeys(words("什么 哪些 哪个 哪种 何种"), "what"),
    **dict.fromkeys(words("为什么 何以"), "why"),
    **dict.fromkeys(words("谁 哪位"), "who"),
    **dict.fromkeys(words("哪里 何处 什么地方"), "where"),
    **dict.fromkeys(words("什么时候 几时 哪天"), "when"),
    **dict.fromkeys(words("多少 几"), "how many"),
    "多久": "how long", "多长时间": "how long", "多长": "how long", "多大": "how big", "多高": "how high",
    "多远": "how far", "多重": "how heavy", "多快": "how fast", "多深": "how deep", "多宽": "how wide",
    **dict.fromkeys(words("吗 是否 能否 可否 是不是 有没有 要不要 该不该"), "whether"),
}  # fmt: skip
# Questions about words themselves, where each counts as it is written.
ABOUT_WORDS: Final = re.compile("[写读念说字词]|翻译|拼音|笔画|发音")
_ASKING: Final = "什么|怎|哪|谁|为什么|几|多"
_NOT_HOW: Final = "样了办没不会个就还又都才能"  # behind 怎么 they make another word of it, or "why"
# The same questions, written differently: what is replaced, and by what.
REWRITES: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    # Greetings and thanks only where a sign parts them from the question: 谢谢用英语怎么说 asks about them.
    (re.compile(r"^(?:请问一下|请问|你好|您好|大家好|麻烦问一下)[\s,.!。]+(?=.{2})"), ""),
    (re.compile(r"(?<=.{2})[\s,.!?。]+谢谢[!。.]*$"), ""),
    (re.compile(r"为何|为啥"), "为什么"),
    (re.compile(r"哪儿"), "哪里"),
    (re.compile(r"何时|啥时候"), "什么时候"),
    (re.compile(rf"^(?:怎样|如何)(?![{_NOT_HOW}])"), "怎么"),
    (re.compile(rf"^((?:(?!{_ASKING}|[吗,]).)*)能不能((?:(?!{_ASKING}|[吗,]).)+)$"), r"\1能\2吗"),
    (re.compile(rf"^((?=.*(?:{_ASKING})).{{3,}})[呢呀啊]$"), r"\1"),
)
# Things with two names.
SAME: Final[dict[str, str]] = {"马铃薯": "土豆", "西红柿": "番茄"}

MOODS: Final[dict[str, str]] = {"能": "can", "会": "future", "该": "should", "必须": "must"}
PERSONS: Final = words("我 你 您 他 她 它 我们 咱们 你们 他们 她们 它们")
NEGATIONS: Final = frozenset("不没无非未别勿莫否禁免除仅只")
# Behind a number; 月 is not 个月, nor 日 天: the first names a month or a day, the second counts.
_UNITS = (
    "米 公尺|千米 公里 km|厘米 公分 cm|毫米 mm|里|英里|英尺|英寸|尺|寸|千克 公斤 kg|克|斤|两|吨|毫克 mg|磅|盎司|"
    "升 公升|毫升 ml mL|加仑|度|摄氏度|华氏度|元 块 块钱|美元|欧元|英镑|日元|卢布|角|分|秒|分钟|小时 个小时 钟头|天|"
    "日|个星期 个礼拜|周|个月|月|年|岁|世纪|平方米|平方公里|公顷|亩|瓦|千瓦|伏|安|赫兹|字节|兆|个|次|人|名|位|只|条|"
    "本|张|辆|台|件|倍|层|页|集|届|号|种|点|%|GB|MB"
)
UNITS: Final[dict[str, str]] = {unit: group.split()[0] for group in _UNITS.split("|") for unit in group.split()}
DATES: Final = words(
    """
        今天 明天 昨天 前天 后天 今年 明年 去年 前年 后年 本月 上月 下月 上个月 下个月 上周 下周 本周 早上 上午
        中午 下午 晚上 凌晨 夜里 周末 星期一 星期二 星期三 星期四 星期五 星期六 星期日 周一 周二 周三 周四 周五
        周六 周日 春天 夏天 秋天 冬天 春季 夏季 秋季 冬季 春节 中秋 端午 国庆 元旦 清明 圣诞
        """
)
NUMERALS: Final[dict[str, int]] = {
    **{digit: value for value, digit in enumerate("零一二三四五六七八九")}, "〇": 0, "两": 2,
}  # fmt: skip
SCALES: Final[dict[str, int]] = {"十": 10, "百": 100, "千": 1000, "万": 10**4}
# Words written with numerals that count nothing.
NOT_NUMBERS: Final = words("万一 一一 千万 十分 百分 一百分 三七 七七八八")
# Names, for the reason given; any other character must agree just as well.
NAMES: Final = words(
    """
        中国 美国 英国 法国 德国 日本 韩国 朝鲜 印度 俄罗斯 乌克兰 意大利 西班牙 葡萄牙 巴西 阿根廷 墨西哥
        加拿大 澳大利亚 新西兰 泰国 越南 新加坡 马来西亚 印度尼西亚 菲律宾 埃及 南非 土耳其 以色列 伊朗 伊拉克
        沙特 瑞士 瑞典 挪威 芬兰 丹麦 荷兰 比利时 奥地利 波兰 希腊 北京 上海 广州 深圳 天津 重庆 成都 武汉 西安
        南京 杭州 苏州 长沙 郑州 青岛 大连 厦门 香港 澳门 台湾 台北 广东 广西 四川 湖南 湖北 河南 河北 山东 山西
        陕西 江苏 浙江 安徽 福建 江西 云南 贵州 海南 新疆 西藏 内蒙古 东京 大阪 首尔 巴黎 伦敦 柏林 纽约 洛杉矶
        莫斯科 华为 小米 苹果 腾讯 阿里 百度 微软 谷歌 三星 微信 支付宝 淘宝 京东 抖音 英语 汉语 中文 日语 法语
        德语 长江 黄河 泰山 长城
        """
)
