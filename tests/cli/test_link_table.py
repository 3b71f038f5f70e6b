from __future__ import annotations

import attrs
import pytest

from knet_trio.cli.link_table import (
    LinkTable,
    fit,
    is_all_up,
    list_drops,
    list_streams,
    make_rows,
    mood_of,
    summarize,
)
from knet_trio.cli.names import name_of, title_of
from knet_trio.control import KeyChangeReport
from tests.cli.reports import down, handle, host, link, streams

REPORT = handle(
    host(2, link(0), down(1), name="beta"),
    host(3, down(0), name="a-host-with-a-very-long-name-indeed"),
    host(4),
)


def lines(width: int | None) -> list[str]:
    rows = make_rows(REPORT)
    table = LinkTable(rows, width)
    return [table.head().plain, *(table.row(row).plain for row in rows)]


def test_how_a_link_is() -> None:
    assert mood_of(link()) == "up"
    assert mood_of(link(carries_data=False)) == "no data"
    assert mood_of(down()) == "down"
    assert mood_of(down(enabled=False)) == "off"


def test_names_have_their_ids_unless_they_are_those() -> None:
    assert name_of(host(2, name="beta")) == "beta (2)"
    assert name_of(host(2)) == "2"
    assert title_of(2, "beta") == "host 2 (beta)"
    assert title_of(2, "2") == "host 2"


def test_a_host_without_a_key_says_so() -> None:
    clear = handle(host(2, link()), encrypted=False)
    assert summarize(clear)[1].startswith("packets are not encrypted: there is no key, so anybody")
    assert len(summarize(handle(host(2, link())))) == 1
    assert len(summarize(handle(host(2, link(src="127.0.0.1:5405")), encrypted=False))) == 1


def test_streams_that_carry_nothing_are_not_shown() -> None:
    idle = handle(host(2, link(), streams=(streams(31, open=0), streams(7))))
    (line,) = list_streams(idle)
    assert "channel 7" in line
    assert len(list_streams(idle, idle=True)) == 2


def test_everything_is_up_if_hosts_are_reached_and_links_that_are_wanted_carry_data() -> None:
    off = down(1, enabled=False)
    assert is_all_up(handle())
    assert is_all_up(handle(host(2, link(0), off)))
    assert not is_all_up(handle(host(2, link(0), down(1))))
    assert not is_all_up(handle(host(2, link(0), link(1, carries_data=False))))
    assert not is_all_up(handle(host(2, off)))
    assert not is_all_up(handle(host(2)))


def test_rates_are_by_the_clock_of_each_link() -> None:
    before = handle(host(2, link(0, at=100.0, tx_data_bytes=1000, rx_data_bytes=500), link(1)))
    now = handle(
        host(2, link(0, at=102.0, tx_data_bytes=5000, rx_data_bytes=400), link(1, at=161.0)),
        host(3, link(0)),
    )
    first, second, new = make_rows(now, before)
    # What has become less was set to zero meanwhile.
    assert (first.tx, first.rx) == (2000, None)
    assert (second.tx, second.rx) == (0, 0)
    assert (new.tx, new.rx) == (None, None)
    assert make_rows(now)[0].tx is None


def test_a_wide_table() -> None:
    head, up, bad, long, none = lines(None)
    assert head.split() == [
        "HOST",
        "LINK",
        "STATE",
        "SINCE",
        "LATENCY",
        "LOSS",
        "MTU",
        "SENT",
        "RECEIVED",
        "REASON",
    ]
    assert up.split("  ")[0] == "beta (2)"
    assert "0*  up" in up
    assert "1m00s" in up
    assert "1.23 ms" in up
    assert up.endswith("the peer answers pings")
    assert "1   down" in bad
    assert "100%" in bad
    assert "1397" not in bad
    assert bad.endswith("no pong for 2.000 s")
    assert long.startswith("a-host-with-a-very-long-name-")
    assert none.endswith("this host has no links")


@pytest.mark.parametrize("width", [40, 60, 79, 80, 81, 109, 110, 120, 200])
def test_no_line_is_wider_than_the_screen(width: int) -> None:
    assert max(map(len, lines(width))) <= width


def test_at_80_columns_all_figures_are_there_and_the_id_of_a_long_name() -> None:
    head, up, _, long, _ = lines(80)
    assert head.endswith("RECEIVED")
    assert "1.23 ms" in up
    assert "1397" in up
    assert "… (3)" in long


def test_a_host_is_named_once() -> None:
    rows = make_rows(REPORT)
    assert LinkTable(rows, 80).row(rows[1], repeats=True).plain.startswith("      ")


def test_the_summary() -> None:
    assert summarize(REPORT) == [
        "host 1: 1 of 3 hosts reachable, 1 of 3 links up; data MTU 1397",
    ]
    (line, unusual) = summarize(
        handle(host(2, down(0, enabled=False)), forwarding=False, access_lists=False, mtu=1400)
    )
    assert line == "host 1: 0 of 1 host reachable, 0 of 1 link up, 1 off; data MTU 1397"
    assert unusual == "forwarding is off, access lists are off, the MTU is fixed at 1400"


def test_who_has_not_answered_under_a_key_is_said() -> None:
    said = {"1": True, "2": False}
    hosts = [host(2, link(0), confirmed=said), host(3, down(0), confirmed=said)]
    (_, line) = summarize(handle(*hosts))
    assert line == "crypto slot 2, of model aead: no answer under it yet of 2"
    many = [host(number, link(0), confirmed=said) for number in range(2, 10)]
    (_, line) = summarize(handle(*many))
    assert line.endswith("of 2, 3, 4, 5, 6 and 3 more")


def test_a_change_of_the_key_in_progress_is_said() -> None:
    change = KeyChangeReport(
        change_id="c0ffee", began_by=2, phase="set", cipher="aes256", hash="sha256", model="openssl"
    )
    (_, line) = summarize(handle(host(2, link(0), name="beta"), key_change=change))
    assert line == (
        "a change of the key, begun by host 2 (beta), is in progress: this host accepts the new key"
        " beside the old one; knet-trio rekey continues it"
    )
    change = attrs.evolve(change, began_by=1, phase="use")
    (_, line) = summarize(handle(host(2, link(0)), key_change=change))
    assert "begun by this host, is in progress: this host uses the new key, and accepts" in line
    change = attrs.evolve(change, phase="of a later release")
    (_, line) = summarize(handle(host(2, link(0)), key_change=change))
    assert "this host is in phase of a later release" in line


def test_drops_come_with_the_most_first() -> None:
    assert list_drops(handle()) == "dropped: nothing"
    drops = {"malformed": 3, "duplicate": 70, "access_list": 5}
    assert list_drops(handle(drops=drops)) == "dropped: duplicate 70, access_list 5, malformed 3"


def test_rows_that_do_not_fit_are_those_of_hosts_that_are_well() -> None:
    report = handle(
        host(2, link(0), link(1)),
        host(3, link(0), down(1)),
        host(4, link(0), down(1, enabled=False)),
        host(5, down(0), down(1)),
    )
    rows = make_rows(report)
    assert fit(rows, 8, lambda row: 1) == (rows, [])
    shown, left = fit(rows, 7, lambda row: 1)
    assert [row.key for row in shown] == [(5, 0), (5, 1), (3, 0), (3, 1), (2, 0), (2, 1), (4, 0)]
    assert [row.key for row in left] == [(4, 1)]
    shown, left = fit(rows, 7, lambda row: 1 + (row.mood != "up"))
    assert [row.key for row in shown] == [(5, 0), (5, 1), (3, 0), (3, 1)]
    assert fit(rows, 0, lambda row: 1)[0] == []
