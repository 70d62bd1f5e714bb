"""The policy file: what it may say, and what is said of mistakes."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from lifecycle_harness import HOUR, Map, at

from alerts.policy.policy import Policy, load_policy, parse_policy
from alerts.policy.rules import AlertRules
from pipelines.core.toml_lines import line_of
from schemas.errors import SettingsError
from schemas.messages import ListedIncident

PAGE = (Path(__file__).parents[3] / "docs" / "alerts.md").read_text()
(EXAMPLE,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


def listed(outlet: str, sku: str = "4G") -> ListedIncident:
    return ListedIncident("i", outlet, sku, 0)


def test_the_example_of_the_page_says_all_there_is(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(EXAMPLE)
    policy = load_policy(path)
    assert policy.model_fields_set == set(Policy.model_fields)
    for part, model in [
        (policy.quiet_hours, "quiet_hours"), (policy.escalation[0], "escalation"),
        (policy.flapping, "flapping"), (policy.leave[0], "leave"),
    ]:  # fmt: skip
        assert part is not None, model
    assert policy.quiet_hours is not None
    assert policy.quiet_hours.model_fields_set == {"start", "end", "zone", "days", "except_"}
    assert [step.after for step in policy.escalation] == [HOUR // 2, 2 * HOUR]
    assert policy.wholesalers["W008"].quiet_hours is False
    assert policy.silences[0].outlet == ("O-17",)


def test_nothing_is_a_policy_too() -> None:
    assert parse_policy("") == Policy()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("repeat_interval = 4", "line 1: repeat_interval: not a duration"),
        ('\n\nrepeat_interval = "4 weeks"', "line 3: repeat_interval: '4 weeks' is not a duration"),
        ('repeat_interval = "5s"', "line 1: repeat_interval: Input should be greater than"),
        ('reapeat_interval = "5m"', "line 1: reapeat_interval: there is no such key"),
        ("escalation = 5", "line 1: escalation: Input should be"),
        ("a = [", "(at end of document)"),
        ('[[escalation]]\nafter = "1m"\nto = "backup_phone"\n\n[[escalation]]\nafter = "soon"',
         "line 6: escalation[2].after: 'soon' is not a duration"),
        ('[[escalation]]\nafter = "1m"', "line 1: escalation[1].to: is missing"),
        ('[[escalation]]\nafter = "1m"\nto = "my_aunt"', "line 3: escalation[1].to: Input should"),
        ('[[escalation]]\nafter = "2h"\nto = "backup_phone"\n[[escalation]]\nafter = "1h"\n'
         'to = "backup_phone"', "line 1: escalation: each step must come later"),
        ('[[escalation]]\nafter = "1m"\nto = "territory_manager"',
         "territory_manager is notified, but nobody is named: add a table [managers]"),
        ('[quiet_hours]\nstart = "9pm"\nend = "07:00"', 'line 2: quiet_hours.start: not a time of'),
        ('[quiet_hours]\nstart = "07:00"\n# x\nend = "07:00"',
         "line 4: quiet_hours.end: is the same"),
        ('[quiet_hours]\nstart = "21:00"\nend = "07:00"\nzone = "Mars/Base"',
         "line 4: quiet_hours.zone: no such time zone"),
        ('[quiet_hours]\nstart = "21:00"\nend = "07:00"\nexcept = [\n  {},\n]',
         "line 4: quiet_hours.except[1]: name an outlet"),
        ('[[silences]]\nwhy = "all"', "line 1: silences[1]: name an outlet"),
        ('[[silences]]\noutlet = "o"\nfrom = 2026-03-01T00:00:00',
         "line 3: silences[1].from: not a time like"),
        ('[[silences]]\noutlet = "o"\nfrom = "2026-03-02T00:00:00Z"\n'
         'until = "2026-03-01T00:00:00Z"',
         "line 4: silences[1].until: ends before it begins"),
        ('[wholesalers."W 1"]\nquiet_hours = { start = "x", end = "07:00" }',
         "line 2: wholesalers.W 1.quiet_hours"),
        ('[wholesalers.W1]\ncolour = "red"', "line 2: wholesalers.W1.colour: there is no such key"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_line_and_key(text: str, told: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse_policy(text, "p.toml")
    assert str(error.value).startswith("p.toml")
    assert told in str(error.value)


def test_a_file_that_cannot_be_read_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml cannot be read: No such file"):
        load_policy(tmp_path / "none.toml")
    (tmp_path / "p.toml").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="is not UTF-8"):
        load_policy(tmp_path / "p.toml")


def test_lines_are_found_through_headers_arrays_and_comments() -> None:
    text = (
        'a.b = 1\n"x y" = [\n  "c = 3",  # d = [\n]\n[t.u]\nc = 2\n[[s]]\n[[s]]\nk = "["\nl = 1\n'
    )
    assert line_of(text, ("a", "b")) == 1
    assert line_of(text, ("x y",)) == 2
    assert line_of(text, ("t", "u", "c")) == 6
    assert line_of(text, ("s", 1, "k")) == 9
    assert line_of(text, ("s", 1, "l")) == 10
    assert line_of(text, ("s", 0, "l")) == 7
    assert line_of(text, ("nowhere", 3)) == 1


def test_quiet_hours_follow_the_clocks_of_their_zone() -> None:
    """Both nights in which Berlin's clocks change are quiet from nine to seven by those clocks."""
    policy = parse_policy('[quiet_hours]\nstart = "21:00"\nend = "07:00"\nzone = "Europe/Berlin"')
    rules = AlertRules(0, policy, zone=UTC)
    spring = 1_774_728_000_000  # 28 March 2026, 21:00 in Berlin, where that night has an hour less
    held = rules.quiet("w", listed("o"), spring)
    assert held is not None
    assert held.until == spring + 9 * HOUR
    autumn = 1_792_868_400_000  # 24 October 2026, 21:00
    held = rules.quiet("w", listed("o"), autumn)
    assert held is not None
    assert held.until == autumn + 11 * HOUR
    assert rules.quiet("w", listed("o"), spring - 1) is None


def test_quiet_hours_hold_on_the_days_on_which_they_start() -> None:
    policy = parse_policy('[quiet_hours]\nstart = "21:00"\nend = "07:00"\ndays = ["sat"]')
    rules = AlertRules(0, policy, zone=UTC)
    assert rules.quiet("w", listed("o"), at(3)) is not None  # Sunday, three in the morning
    assert rules.quiet("w", listed("o"), at(22)) is None


def test_a_territory_means_those_in_it_and_all_that_is_given_must_match() -> None:
    policy = parse_policy(
        """
        silences = [{ territory = "city", sku = "5G", until = "2026-03-02T00:00:00Z" }]
        managers = { city = "all", north = "north-team" }
        """
    )
    rules = AlertRules(0, policy, zone=ZoneInfo("Asia/Shanghai"), places=Map())
    assert rules.held("w", listed("o-north-1", "5G"), at(1)) is not None
    assert rules.held("w", listed("o-north-1", "4G"), at(1)) is None
    assert rules.held("w", listed("o-north-1", "5G"), at(24)) is None
    assert rules.held("w", listed("stray", "5G"), at(1)) is None
    assert rules.addressee("territory_manager", listed("o-north-1")) == "channel/north-team"
    assert rules.addressee("territory_manager", listed("o-south-1")) == "channel/all"
    assert rules.addressee("territory_manager", listed("stray")) == "channel/"


def test_wholesalers_may_have_their_own_wait() -> None:
    policy = parse_policy('group_wait = "30s"\n[wholesalers.w]\ngroup_wait = "5m"')
    rules = AlertRules(60_000, policy, zone=UTC)
    assert (rules.group_wait("w"), rules.group_wait("v")) == (300_000, 30_000)
    assert AlertRules(60_000, zone=UTC).group_wait("w") == 60_000


def test_quiet_hours_of_one_wholesaler_are_those_of_all_but_for_what_is_written() -> None:
    policy = parse_policy(
        """
        [quiet_hours]
        start = "21:00"
        end = "07:00"
        zone = "Europe/London"
        days = ["mon"]
        except = [{ outlet = "o-station" }]
        [wholesalers.w]
        quiet_hours = { start = "23:00", end = "06:00" }
        """
    )
    rules = AlertRules(0, policy, zone=ZoneInfo("Asia/Shanghai"))

    def quiet(day: int, hour: int, outlet: str = "o") -> bool:
        moment = datetime(2026, 3, day, hour, tzinfo=UTC)  # London keeps UTC in March
        return rules.quiet("w", listed(outlet), round(moment.timestamp() * 1_000)) is not None

    assert [quiet(2, hour) for hour in (22, 23)] == [False, True]  # a Monday
    assert not quiet(2, 23, "o-station")
    assert [quiet(3, hour) for hour in (5, 6, 23)] == [True, False, False]
