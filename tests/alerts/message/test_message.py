"""What a wholesaler reads."""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.message.compose import EmptyShelf, Text, compose
from alerts.message.segments import segments

SHANGHAI = ZoneInfo("Asia/Shanghai")
#: 14:05 in Shanghai.
AT = 1_763_877_900_000

#: Words that make a carrier take a text for finance.
FINANCE = re.compile("贷|款|账|余额|额度|信用|银行|投资|利息|充值|付|钱|元|股|欠")


def shelf(outlet: str, territory: str = "", sku: str = "4G-50", outlet_id: str = "") -> EmptyShelf:
    return EmptyShelf(outlet_id or f"id-{outlet}", outlet, territory, sku, AT)


def text(*shelves: EmptyShelf, language: str = "en", signature: str = "") -> Text:
    return compose(shelves, language=language, timezone=SHANGHAI, signature=signature)


def test_one_outlet_in_english() -> None:
    assert text(shelf("Corner Shop", "Riverside")) == Text(
        "14:05 out of 4G-50 cards. Riverside: Corner Shop. Please refill.", "en", 1
    )


def test_one_outlet_in_chinese() -> None:
    assert text(shelf("老王便利店", "西湖区"), language="zh-CN") == Text(
        "14:05 4G-50手机卡售完。西湖区：老王便利店，请补货。", "zh", 1
    )


def test_outlets_in_the_order_of_the_way() -> None:
    body = text(shelf("Zed", "Hill"), shelf("Abe", "Riverside"), shelf("Bob", "Hill")).body
    assert "Hill: Bob, Zed; Riverside: Abe. " in body


def test_several_skus_are_named_at_their_outlets() -> None:
    body = text(shelf("Abe", sku="5G"), shelf("Abe", sku="4G"), shelf("Bob", sku="4G")).body
    assert body == "14:05 out of SIM cards. Abe (4G, 5G), Bob (4G). Please refill."


def test_time_is_that_of_the_first_stock_out() -> None:
    later = shelf("Bob")._replace(opened_at=AT + 3_600_000)
    assert text(later, shelf("Abe")).body.startswith("14:05 ")


@pytest.mark.parametrize("language", ["fr", "", "klingon", "EN_gb"])
def test_english_for_everybody_else(language: str) -> None:
    assert text(shelf("Abe"), language=language).language == "en"


def test_a_long_list_stays_in_one_segment() -> None:
    many = [shelf(f"Shop {i:02}", "Riverside") for i in range(40)]
    english = text(*many)
    assert english.segments == 1
    assert english.body.endswith(" and 30 more. Please refill.")
    assert english.body.count("Shop") == 10
    chinese = text(*(shelf(f"老王便利店{i:02}", "西湖区") for i in range(40)), language="zh")
    assert chinese.segments == 1
    assert chinese.body.endswith("等另外36家，请补货。")


def test_an_outlet_without_a_name_goes_by_its_id() -> None:
    assert "OUT-7" in text(EmptyShelf("OUT-7", "", "", "4G", AT)).body


def test_namesakes_are_told_apart() -> None:
    body = text(shelf("Abe", "Hill", outlet_id="o1"), shelf("Abe", "Hill", outlet_id="o2")).body
    assert "Hill: Abe o1, Abe o2." in body


def test_a_signature_has_room() -> None:
    shelves = [shelf(f"Shop {n}") for n in range(9)]
    plain, signed = text(*shelves), text(*shelves, signature="ACME")
    assert (plain.segments, signed.segments) == (1, 1)
    assert len(signed.body) < len(plain.body)  # and the brackets make it UCS-2
    assert segments(f"【ACME】{signed.body}") == 1


def test_names_cannot_smuggle_in_links_lines_or_costly_quotes() -> None:
    body = text(shelf("Lee’s\nhttps://www.shop.com\x1b")).body
    assert "Lee's shop com." in body


def test_a_name_too_long_for_a_shop_is_cut() -> None:
    sent = text(shelf("N" * 2_000), shelf("O" * 2_000))
    assert "N" * 57 + "... and 1 more" in sent.body
    assert sent.segments == 1


def test_a_second_segment_that_is_needed_anyway_is_used() -> None:
    long = [shelf(f"{letter * 44}店", "Gongshu") for letter in "NOPQRSTUVW"]
    sent = text(*long, language="zh")
    assert sent.segments == 2
    assert "N" * 44 in sent.body
    assert "O" * 44 in sent.body


NAMES = st.text(st.sampled_from("ab 店王é€😀.’"), max_size=30)


@given(
    st.lists(st.tuples(NAMES, NAMES, st.sampled_from(["4G", "5G"])), min_size=1, max_size=30),
    st.sampled_from(["en", "zh"]),
)
def test_every_text(places: list[tuple[str, str, str]], language: str) -> None:
    """As short as its names allow; all outlets named or counted; arithmetic is right."""
    shelves = [shelf(o, t, sku, f"o{i}") for i, (o, t, sku) in enumerate(places)]
    sent = text(*shelves, language=language)
    assert sent.segments == segments(sent.body)
    assert "\n" not in sent.body
    assert not re.search(r"https?:|www\.", sent.body)
    assert not FINANCE.search(sent.body)
    more = re.search(r"(?: and |等另外)(\d+)(?: more|家)", sent.body)
    left_out = int(more[1]) if more else 0
    assert left_out < len(shelves)
    alone = max(text(one, language=language).segments for one in shelves)
    assert sent.segments <= alone + (len(shelves) > 1)  # "and 9 more" may take its own
    # The same stock-outs in another order are the same text.
    assert text(*reversed(shelves), language=language) == sent
