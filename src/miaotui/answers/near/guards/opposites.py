"""Pairs of opposites, English and Chinese. Data only."""

from __future__ import annotations

from typing import Final

_PAIRS: Final = """
on off|in out|up down|left right|open close|start stop|begin end|buy sell|increase decrease|increase reduce
raise lower|high low|hot cold|big small|large small|long short|fast slow|quick slow|early late|old new|old young
good bad|best worst|better worse|more less|most least|many few|maximum minimum|max min|first last|before after
above below|over under|push pull|enable disable|install uninstall|lock unlock|load unload|connect disconnect
add remove|add subtract|multiply divide|create delete|insert delete|import export|upload download|encode decode
encrypt decrypt|compress decompress|wrap unwrap|bind unbind|mount unmount|subscribe unsubscribe|follow unfollow
friend unfriend|do undo|dress undress|legal illegal|safe unsafe|safe dangerous|happy sad|happy unhappy
healthy unhealthy|possible impossible|true false|right wrong|win lose|gain lose|love hate|like dislike|rich poor
strong weak|heavy light|light dark|hard soft|hard easy|easy difficult|full empty|wet dry|clean dirty|cheap expensive
public private|male female|man woman|boy girl|husband wife|father mother|son daughter|brother sister|king queen
uncle aunt|he she|his her|accept reject|allow forbid|allow block|permit prohibit|attack defend|arrive depart
arrive leave|come go|enter exit|give take|lend borrow|teach learn|send receive|ask answer|question answer
remember forget|save spend|save delete|succeed fail|success failure|pass fail|agree disagree|appear disappear
approve disapprove|advantage disadvantage|pro con|benefit risk|benefit disadvantage|positive negative|profit loss
income expense|asset liability|supply demand|cause effect|input output|internal external|inside outside|front back
top bottom|north south|east west|day night|morning evening|summer winter|am pm|hire fire|employ dismiss
marry divorce|birth death|born die|alive dead|life death|war peace|friend enemy|guest host|parent child
teacher student|doctor patient|lawyer client|employer employee|employee employer|landlord tenant
vegetarian carnivore|inhale exhale|freeze melt|freeze boil|heat cool|warm cool|lighten darken|expand shrink
expand contract|widen narrow|wide narrow|thick thin|fat thin|deep shallow|near far|ascend descend
ascending descending|rise fall|float sink|build destroy|repair break|fix break|tighten loosen|tight loose
fasten unfasten|plug unplug|freeze unfreeze|zip unzip|charge discharge|inflate deflate|credit debit|deposit withdraw
gain loss|lose gain|always never|everything nothing|everyone nobody|all none|with without|for against|from to
into out|even odd|horizontal vertical|row column|sync async|synchronous asynchronous|static dynamic|client server
primary secondary|ancestor descendant|predecessor successor|major minor|majority minority|optimist pessimist
introvert extrovert|urban rural|domestic foreign|solid liquid|acid base|conductor insulator|proton electron
vein artery|mammal reptile|hypertension hypotension|hyperthyroidism hypothyroidism|clockwise counterclockwise
convex concave|odd even|include exclude|mandatory optional|required optional|active passive|active inactive
formal informal|permanent temporary|regular irregular|visible invisible|mute unmute|block unblock|ban unban
pin unpin|hide show|hide unhide|archive unarchive|lengthen shorten|大 小|多 少|高 低|长 短|快 慢|早 晚|新 旧|老 少
好 坏|上 下|左 右|前 后|里 外|内 外|东 西|南 北|男 女|父 母|买 卖|进 出|来 去|开 关|打开 关闭|开启 关闭|开始 结束
开始 停止|增加 减少|提高 降低|增长 下降|上升 下降|上涨 下跌|升 降|加 减|乘 除|胖 瘦|增肥 减肥|冷 热|轻 重|强 弱
贵 便宜|难 易|难 简单|复杂 简单|真 假|对 错|正确 错误|安全 危险|成功 失败|赢 输|爱 恨|喜欢 讨厌|优点 缺点|好处 坏处
利 弊|积极 消极|正 负|阳 阴|公 私|合法 非法|允许 禁止|接受 拒绝|同意 反对|支持 反对|借 还|借入 借出|存 取|存款 取款
上传 下载|导入 导出|安装 卸载|登录 退出|注册 注销|连接 断开|加密 解密|压缩 解压|添加 删除|插入 删除|关注 取关
订阅 退订|结婚 离婚|生 死|活 死|战争 和平|白天 黑夜|夏 冬|春 秋|最大 最小|最高 最低|最好 最坏|最好 最差|最多 最少
最早 最晚|首先 最后|之前 之后|以前 以后|以上 以下|以内 以外|国内 国外|主动 被动|上班 下班|入口 出口|进口 出口
收入 支出|盈利 亏损|城市 农村|东方 西方|丈夫 妻子|儿子 女儿|哥哥 姐姐|弟弟 妹妹|老师 学生|医生 病人|有 无|有 没
是 非
"""


def _table() -> dict[str, frozenset[str]]:
    table: dict[str, set[str]] = {}
    for line in _PAIRS.strip().split("\n"):
        for one, other in (pair.split() for pair in line.split("|")):
            table.setdefault(one, set()).add(other)
            table.setdefault(other, set()).add(one)
    return {word: frozenset(others) for word, others in table.items()}


OPPOSITES: Final = _table()
