from __future__ import annotations

import attrs
import pytest

from knet_trio.cli.top_screen import SORTS, SetEnabled, ShowHistory, TopScreen
from knet_trio.control import HandleReport, LinkChange, LinkHistory
from tests.cli.reports import down, handle, host, link, streams

REPORT = handle(
    host(2, link(0, latency=0.001), link(1, latency=0.005, loss=0.5), name="beta"),
    host(3, down(0, since=150.0), link(1, latency=0.002, since=159.0), name="gamma"),
    host(4, link(0, carries_data=False), down(1, enabled=False, reason="it was disabled here")),
)


def shown(screen: TopScreen, width: int = 80, height: int = 24) -> list[str]:
    text = screen.render(width, height)
    lines = text.plain.split("\n")
    assert len(lines) == height
    assert max(map(len, lines)) <= width
    return lines


def selected(screen: TopScreen) -> tuple[int, int]:
    """The ids of the row that is selected, as the order to show its history says."""
    order = screen.press("h")
    screen.press("h")
    assert isinstance(order, ShowHistory)
    return order.key


def many(count: int) -> HandleReport:
    return handle(*(host(number, link(0), link(1)) for number in range(2, 2 + count // 2)))


def test_before_the_first_answer_it_says_so_and_takes_keys() -> None:
    screen = TopScreen()
    assert screen.render(80, 24).plain == "waiting for the host to answer"
    for key in ("down", "d", "h", "s", "end"):
        assert screen.press(key) is None
    screen.press("q")
    assert screen.done


def test_the_table_has_a_row_for_each_link() -> None:
    screen = TopScreen()
    screen.update(REPORT)
    lines = shown(screen)
    assert lines[0].startswith("host 1: 2 of 3 hosts reachable, 3 of 6 links up, 1 off")
    assert lines[1] == "dropped: nothing"
    assert lines[2].startswith("HOST")
    assert [line.split()[0] for line in lines[3:9]] == ["beta", "1", "gamma", "1", "4", "1"]
    assert lines[-2] == "1-6 of 6 by host; link 0 to beta (2): the peer answers pings"
    assert lines[-1].startswith("q quit")


def test_streams_are_shown_those_with_the_selected_host_first() -> None:
    hosts = (host(number, link(), streams=(streams(7),)) for number in range(2, 7))
    screen = TopScreen()
    screen.update(handle(*hosts, host(9, link(), name="nine", streams=(streams(1), streams(2)))))
    said = "open, round trip 1.20 ms, window 14.0 kB, up to 11.2 MB/s, 1 packet sent again"
    lines = shown(screen, width=120)
    assert lines[2:5] == [f"streams with {number}, channel 7: 2 {said}" for number in (2, 3, 4)]
    assert lines[5] == "… 4 more lines of streams"
    assert lines[6].startswith("HOST")
    screen.press("end")
    assert [line.split(":")[0] for line in shown(screen, width=120)[2:5]] == [
        "streams with nine (9), channel 1",
        "streams with nine (9), channel 2",
        "streams with 2, channel 7",
    ]
    # Where there is little room, it is for the links.
    assert not any("streams" in line for line in shown(screen, height=6))
    screen.update(REPORT)
    assert not any("streams" in line for line in shown(screen))


@pytest.mark.parametrize("height", [6, 12, 24, 50])
@pytest.mark.parametrize("width", [20, 80, 200])
@pytest.mark.parametrize("links", [0, 2, 20, 500])
def test_it_fits_any_screen_and_the_selected_row_is_seen(
    links: int, width: int, height: int
) -> None:
    screen = TopScreen()
    screen.update(many(links))
    for key in ("end", "up", "page up", "home", "page down", "down", "end"):
        screen.press(key)
        shown(screen, width, height)
        text = screen.render(width, height)
        assert any("reverse" in str(span.style) for span in text.spans) is (links > 0)


def test_moving_stops_at_the_ends_and_scrolls() -> None:
    screen = TopScreen()
    screen.update(many(500))
    shown(screen)
    screen.press("up")
    assert selected(screen) == (2, 0)
    screen.press("j")
    assert selected(screen) == (2, 1)
    assert shown(screen)[-2].startswith("1-19 of 500 by host")
    screen.press("page down")
    # A page is what is seen.
    assert selected(screen) == (12, 0)
    assert shown(screen)[-2].startswith("3-21 of 500 by host")
    screen.press("end")
    assert selected(screen) == (251, 1)
    assert shown(screen)[-2].startswith("482-500 of 500 by host")
    screen.press("down")
    assert selected(screen) == (251, 1)
    screen.press("home")
    assert shown(screen)[-2].startswith("1-19 of 500 by host")


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("host", (2, 0)),
        ("state", (4, 1)),
        ("since", (3, 1)),
        ("latency", (2, 1)),
        ("loss", (3, 0)),
        ("sent", (4, 0)),
        ("received", (3, 1)),
    ],
)
def test_sorting_has_the_worst_the_newest_or_the_most_first(
    name: str, first: tuple[int, int]
) -> None:
    report = attrs.evolve(
        REPORT,
        hosts=(
            *REPORT.hosts[:1],
            attrs.evolve(
                REPORT.hosts[1],
                links=(
                    REPORT.hosts[1].links[0],
                    attrs.evolve(REPORT.hosts[1].links[1], at=161.0, rx_data_bytes=10),
                ),
            ),
            attrs.evolve(
                REPORT.hosts[2],
                reachable=False,
                links=(
                    attrs.evolve(REPORT.hosts[2].links[0], at=161.0, tx_data_bytes=10),
                    REPORT.hosts[2].links[1],
                ),
            ),
        ),
    )
    screen = TopScreen()
    screen.update(REPORT)
    screen.update(report)
    for _ in range(list(SORTS).index(name)):
        screen.press("s")
    if name == "state":
        # That of an unreachable host, even if it is off.
        assert f"by {name}" in shown(screen)[-2]
        screen.press("home")
        assert selected(screen)[0] == 4
        return
    screen.press("home")
    assert selected(screen) == first
    screen.press("r")
    screen.press("end")
    assert selected(screen) == first
    assert f"by {name}, reversed" in shown(screen)[-2]


def test_the_selection_stays_with_its_link_and_falls_on_another_when_that_is_gone() -> None:
    screen = TopScreen()
    screen.update(REPORT)
    for _ in range(3):
        screen.press("down")
    assert selected(screen) == (3, 1)
    screen.press("s")
    assert selected(screen) == (3, 1)
    screen.update(attrs.evolve(REPORT, hosts=REPORT.hosts[1:]))
    assert selected(screen) == (3, 1)
    screen.update(attrs.evolve(REPORT, hosts=REPORT.hosts[:1]))
    assert selected(screen)[0] == 2
    screen.update(attrs.evolve(REPORT, hosts=()))
    assert screen.press("h") is None
    assert shown(screen)[-2].startswith("0-0 of 0")


def test_a_link_is_disabled_after_a_yes_only() -> None:
    screen = TopScreen()
    screen.update(REPORT)
    assert screen.press("d") is None
    asked = "messages go over it: disable link 0 to beta (2)? y/n"
    assert shown(screen)[-1] == asked
    assert screen.press("n") is None
    assert shown(screen)[-1].startswith("q quit")
    screen.press("d")
    # A key that would do something else does not.
    assert screen.press("q") is None
    assert not screen.done
    screen.press("d")
    # The link stays the one that was asked about.
    screen.update(attrs.evolve(REPORT, hosts=REPORT.hosts[::-1]))
    assert screen.press("y") == SetEnabled((2, 0), False)
    screen.press("down")
    screen.press("d")
    assert shown(screen)[-1] == "disable link 1 to beta (2)? y/n"
    assert screen.press("y") == SetEnabled((2, 1), False)
    assert screen.press("y") is None


def test_a_link_is_enabled_at_once() -> None:
    screen = TopScreen()
    screen.update(REPORT)
    screen.press("end")
    assert screen.press("e") == SetEnabled((4, 1), True)
    screen.show_message("no such link")
    assert shown(screen)[-1] == "no such link"
    screen.press("x")
    assert shown(screen)[-1].startswith("q quit")


def test_a_host_without_links_has_none_to_disable() -> None:
    screen = TopScreen()
    screen.update(handle(host(9)))
    assert "this host has no links" in "\n".join(shown(screen, 120))
    for key in ("d", "e", "h", "enter"):
        assert screen.press(key) is None


def test_the_history_of_a_link_has_the_latest_first() -> None:
    screen = TopScreen()
    screen.update(REPORT)
    assert screen.press("enter") == ShowHistory((2, 0))
    assert "waiting for the answer" in shown(screen)[3]
    changes = tuple(
        LinkChange(at=100.0 + number, time=1e9, connected=number % 2 == 0, reason=f"no {number}")
        for number in range(32)
    )
    screen.update_history(LinkHistory(changes=changes), "why\n  " + "because " * 20)
    lines = shown(screen)
    assert lines[2] == "link 0 to beta (2): when it went up and down"
    assert lines[3].endswith("29s ago  down no 31")
    assert lines[-1] == "q back to the table"
    assert "why" in lines
    assert sum("because" in line for line in lines) > 1
    for key in ("d", "s", "x"):
        assert screen.press(key) is None
    screen.press("q")
    assert not screen.done
    assert shown(screen)[2].startswith("HOST")


def test_a_link_that_has_not_been_up_says_so() -> None:
    screen = TopScreen()
    screen.update(REPORT)
    screen.press("h")
    screen.update_history(LinkHistory(changes=()), "")
    assert shown(screen)[3] == "the link has not been up yet"
