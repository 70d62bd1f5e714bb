"""What the answer page says, by language."""

from __future__ import annotations

from typing import Final

WORDS: Final = {
    "en": {
        "language": "en",
        "title": "Out of cards",
        "outlet": "Shop",
        "article": "Cards",
        "since": "Since",
        "got_it": "Got it",
        "by": "On the way by",
        "send": "On the way",
        "refuse": "Cannot deliver",
        "you_said": "You said",
        "acknowledged": "got it",
        "delivering": "on the way",
        "delivering_by": "on the way by {by}",
        "cannot": "cannot deliver",
        "again": "You may still change it.",
        "when": "Please give the time by which you will be there.",
        "too_many": "That was changed too often. Please call.",
        "not_now": "Not saved. Please try again in a minute.",
        "expired": "This link has expired. The next message brings a new one.",
        "no_link": "There is no such page. Please use the link exactly as it is in the message.",
    },
    "zh": {
        "language": "zh",
        "title": "手机卡售完",
        "outlet": "网点",
        "article": "卡种",
        "since": "售完时间",
        "got_it": "收到",
        "by": "送到时间",
        "send": "马上去送",
        "refuse": "送不了",
        "you_said": "您的回复",
        "acknowledged": "收到",
        "delivering": "马上去送",
        "delivering_by": "{by} 前送到",
        "cannot": "送不了",
        "again": "仍可更改。",
        "when": "请填写送到的时间。",
        "too_many": "更改次数过多，请打电话。",
        "not_now": "没有保存，请一分钟后再试。",
        "expired": "链接已过期，下一条短信会有新的链接。",
        "no_link": "没有这个页面，请使用短信中的完整链接。",
    },
}
