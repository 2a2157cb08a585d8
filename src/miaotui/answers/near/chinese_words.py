"""Chinese words by what they do to a question's meaning. Data only; `chinese` says how they are used.

A word that is missing here costs a hit, never a wrong one: every character that only one of two questions has is a
difference, and so is every other order of characters.
"""

from __future__ import annotations

from typing import Final

from miaotui.answers.near.vocabulary import words

# Asked with: what they ask for.
QUESTIONS: Final[dict[str, str]] = {
    **dict.fromkeys(words(
        """
        怎么 怎样 如何 咋 怎么才能 怎样才能 如何才能 怎么做才能 有什么办法 有什么方法 有哪些方法 用什么方法
        怎么办才能 有没有办法
        """
    ), "how"),
    **dict.fromkeys(words("怎么样 咋样 怎么看"), "how good"),
    **dict.fromkeys(words("怎么办"), "what to do"),
    **dict.fromkeys(words(
        """
        什么 啥 甚么 哪些 哪个 哪种 哪一个 哪一种 哪一些 什么样 什么样的 何种
        """
    ), "what"),
    **dict.fromkeys(words("为什么 为何 为啥 为什麽 何以 怎么会 什么原因 是什么原因"), "why"),
    **dict.fromkeys(words("谁 哪位 什么人 哪个人"), "who"),
    **dict.fromkeys(words("哪里 哪儿 何处 什么地方 哪个地方 在哪"), "where"),
    **dict.fromkeys(words("什么时候 何时 几时 啥时候 什么时间 哪天 哪一天"), "when"),
    **dict.fromkeys(words("多少 几"), "how many"),
    "多久": "how long", "多长时间": "how long", "多长": "how long", "多大": "how big", "多高": "how high",
    "多远": "how far", "多重": "how heavy", "多快": "how fast", "多深": "how deep", "多少钱": "how much money",
    **dict.fromkeys(words(
        """
        吗 么 是否 能否 可否 是不是 有没有 能不能 会不会 要不要 可不可以 该不该 应不应该 好不好 对不对 行不行
        需不需要 值不值得 难不难 贵不贵
        """
    ), "whether"),
}  # fmt: skip
# Words that ask whether and say more: what is left of them.
REST_OF_QUESTION: Final[dict[str, str]] = {
    "能否": "能", "可否": "能", "有没有": "有", "能不能": "能", "会不会": "会", "要不要": "要", "可不可以": "能",
    "该不该": "该", "应不应该": "该", "好不好": "好", "对不对": "对", "行不行": "行", "需不需要": "需要",
    "值不值得": "值得", "难不难": "难", "贵不贵": "贵", "在哪": "在",
}  # fmt: skip

# Without them the question asks the same.
FILLERS: Final = words(
    """
        请问一下 请问 请告诉我 请教一下 请教 告诉我 能告诉我 你能告诉我 可以告诉我 你知道 有人知道 谁知道
        我想知道 想知道 我想问一下 我想问 想问一下 想问 想请问 麻烦问一下 麻烦 大家好 你好 您好 谢谢 请 一下
        到底 究竟 的 了 呢 啊 吧 呀 嘛 哦 啦 目前 现在 如今 当前 真的 其实
        """
)
# Words in which a filler is none.
PROTECTED: Final = frozenset(
    words(
        """
        了解 了不起 目的 的士 打的 酒吧 网吧 贴吧 吧台 申请 邀请 请假 请客 请求 聘请 么么
        """
    )
)

# Written differently, meaning the same; the first of a line stands for the others.
_SAME: Final = """
我 我们 咱们 咱
你 您 你们
他 她 它
能 可以 能够
会 将 将会 将要
该 应该 应当 应
必须 务必 必需
但 但是 可是
和 与 跟 及 以及 同
或 或者 还是
因 因为 由于
若 如果 假如 要是
学习 学
电脑 计算机
手机 移动电话
飞机票 机票
火车票 车票
自行车 单车 脚踏车
土豆 马铃薯
番茄 西红柿
医生 大夫
父亲 爸爸
母亲 妈妈
购买 买
销售 卖
使用 用 运用
开始 起始
方法 办法 方式
区别 差别 不同 差异
好处 优点 益处
坏处 缺点 弊端
原因 缘由
增加 增多
减少 减低
提高 提升
制作 做 制造
吃 食用
需要 需
美国 美利坚
英国 大不列颠
北京 北京市
上海 上海市
广州 广州市
深圳 深圳市
米 公尺
千米 公里 km
厘米 公分 cm
千克 公斤 kg
克 g
毫升 ml
升 公升
元 块 块钱 人民币
小时 钟头 个小时
天 日
周 星期 礼拜 个星期
月 个月
星期日 星期天 周日 周天
星期一 周一 礼拜一
星期二 周二 礼拜二
星期三 周三 礼拜三
星期四 周四 礼拜四
星期五 周五 礼拜五
星期六 周六 礼拜六
今天 今日
明天 明日
昨天 昨日
"""
# One-letter units would be found inside other words; they are units behind a number only.
_BEHIND_NUMBERS: Final = words("km cm kg g ml")
SAME: Final[dict[str, str]] = {
    other: first
    for first, *others in (line.split() for line in _SAME.strip().split("\n"))
    for other in others
    if other not in _BEHIND_NUMBERS
}

MOODS: Final[dict[str, str]] = {"能": "can", "会": "future", "该": "should", "必须": "must"}
PERSONS: Final[dict[str, str]] = {"我": "i", "你": "you"}
NEGATIONS: Final = frozenset("不没无非未别勿莫否禁免除仅只")
UNITS: Final = frozenset(
    words(
        """
        米 千米 厘米 毫米 里 英里 英尺 英寸 尺 寸 千克 克 斤 两 吨 毫克 磅 盎司 升 毫升 加仑 度 摄氏度 华氏度 元
        美元 欧元 英镑 日元 卢布 角 分 秒 分钟 小时 天 周 月 年 岁 世纪 平方米 平方公里 公顷 亩 瓦 千瓦 伏 安
        赫兹 字节 兆 个 次 人 名 位 只 条 本 张 辆 台 件 倍 层 页 集 届 号 种 点
        """
    )
)
DATES: Final = words(
    """
        今天 明天 昨天 前天 后天 今年 明年 去年 前年 后年 本月 上月 下月 上个月 下个月 上周 下周 本周 早上 上午
        中午 下午 晚上 凌晨 夜里 周末 星期一 星期二 星期三 星期四 星期五 星期六 星期日 春天 夏天 秋天 冬天 春季
        夏季 秋季 冬季 春节 中秋 端午 国庆 元旦 清明 圣诞
        """
)
NUMERALS: Final[dict[str, int]] = {
    **{digit: value for value, digit in enumerate("零一二三四五六七八九")}, "〇": 0, "两": 2,
}  # fmt: skip
SCALES: Final[dict[str, int]] = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "亿": 10**8}
# Words written with numerals that count nothing.
NOT_NUMBERS: Final = words("万一 一一 千万 十分 百分 一百分 三七 七七八八")
# Names that are told by their signs alone, for the reason given; any other character must agree just as well.
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
