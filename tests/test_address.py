from __future__ import annotations

import math
import socket
from ipaddress import IPv4Address, IPv6Address

import pytest

from knet_trio.address import Address, format_address, parse_address, socket_address
from knet_trio.errors import InvalidArgumentError

LO = socket.if_nametoindex("lo")


class TestParsing:
    @pytest.mark.parametrize(
        ("host", "port", "parsed"),
        [
            ("192.0.2.7", 5405, ("192.0.2.7", 5405)),
            ("192.0.2.7", "5405", ("192.0.2.7", 5405)),
            ("0.0.0.0", 0, ("0.0.0.0", 0)),
            ("192.0.2.7", 65535, ("192.0.2.7", 65535)),
            ("2001:0db8:0000:0000:0000:0000:0000:0001", 1, ("2001:db8::1", 1)),
            ("2001:DB8::A", 1, ("2001:db8::a", 1)),
            ("::", 1, ("::", 1)),
            ("0:0:0:0:0:0:0:1", 1, ("::1", 1)),
            # The longest run of zeros is the one that is left out.
            ("2001:db8:0:0:1:0:0:0", 1, ("2001:db8:0:0:1::", 1)),
            (IPv4Address("192.0.2.7"), 1, ("192.0.2.7", 1)),
            (IPv6Address("fd00::0:1"), 1, ("fd00::1", 1)),
        ],
    )
    def test_gives_the_shortest_form(
        self, host: str | IPv4Address | IPv6Address, port: int | str, parsed: tuple[str, int]
    ) -> None:
        address = parse_address(host, port)
        assert address == parsed
        assert isinstance(address, Address)

    @pytest.mark.parametrize("scope", ["lo", str(LO)])
    def test_a_link_local_address_has_its_interface_by_name(self, scope: str) -> None:
        assert parse_address(f"fe80:0::1%{scope}", 5405) == ("fe80::1%lo", 5405)

    def test_an_object_may_carry_the_interface(self) -> None:
        assert parse_address(IPv6Address("fe80::1%lo"), 5405) == ("fe80::1%lo", 5405)

    @pytest.mark.parametrize(
        "host", ["", "localhost", "10.0.0", "10.0.0.256", "fd00::1::2", "[::1]"]
    )
    def test_a_host_that_is_no_address(self, host: str) -> None:
        with pytest.raises(InvalidArgumentError, match="resolve host names first") as caught:
            parse_address(host, 5405)
        assert repr(host) in str(caught.value)

    @pytest.mark.parametrize("port", [-1, 65536, "65536"])
    def test_a_port_out_of_range(self, port: int | str) -> None:
        with pytest.raises(InvalidArgumentError, match=f"port {port} is not 0 to 65535"):
            parse_address("10.0.0.1", port)

    @pytest.mark.parametrize("port", ["http", "", None, [1], 5.5, math.inf, True])
    def test_a_port_that_is_no_number(self, port: object) -> None:
        with pytest.raises(InvalidArgumentError, match="is not a number"):
            parse_address("10.0.0.1", port)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    def test_a_link_local_address_needs_an_interface(self) -> None:
        with pytest.raises(InvalidArgumentError, match=r"append its interface.*'fe80::1%eth0'"):
            parse_address("fe80::1", 5405)

    def test_nor_an_empty_one(self) -> None:
        with pytest.raises(InvalidArgumentError, match="leave out '%'"):
            parse_address("10.0.0.1%", 5405)

    @pytest.mark.parametrize("host", ["fd00::1%lo", "10.0.0.1%lo", "::1%lo"])
    def test_another_address_may_not_have_one(self, host: str) -> None:
        with pytest.raises(InvalidArgumentError, match="leave out '%lo'"):
            parse_address(host, 5405)

    @pytest.mark.parametrize("scope", ["nosuchif", "99999", "0", "9" * 30, "a\0b", "\udc80", "l o"])
    def test_an_interface_that_is_not_there(self, scope: str) -> None:
        with pytest.raises(InvalidArgumentError, match="this machine has no network interface"):
            parse_address(f"fe80::1%{scope}", 5405)


class TestFormatting:
    @pytest.mark.parametrize(
        ("pair", "text"),
        [
            (("10.0.0.1", 5405), "10.0.0.1:5405"),
            (("fd00:0::1", 5405), "[fd00::1]:5405"),
            ((f"fe80::1%{LO}", 1), "[fe80::1%lo]:1"),
        ],
    )
    def test_as_people_write_it(self, pair: tuple[str, int], text: str) -> None:
        assert format_address(pair) == text
        assert str(parse_address(*pair)) == text

    def test_what_is_no_address(self) -> None:
        with pytest.raises(InvalidArgumentError):
            format_address(("example.org", 5405))

    def test_ip_version(self) -> None:
        assert Address("::1", 1).is_ipv6
        assert not Address("127.0.0.1", 1).is_ipv6


class TestSocketAddress:
    def test_ipv4(self) -> None:
        assert socket_address(Address("10.0.0.1", 5405)) == ("10.0.0.1", 5405)

    def test_ipv6(self) -> None:
        assert socket_address(Address("fd00::1", 5405)) == ("fd00::1", 5405, 0, 0)

    def test_link_local(self) -> None:
        assert socket_address(Address("fe80::1%lo", 5405)) == ("fe80::1", 5405, 0, LO)

    def test_an_interface_that_has_gone(self) -> None:
        with pytest.raises(OSError, match=r"No such device|no interface"):
            socket_address(Address("fe80::1%nosuchif", 5405))
