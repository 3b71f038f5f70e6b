"""The nozzle of a corosync.conf(5): an Ethernet between the nodes."""

from __future__ import annotations

import re
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Final

from knet_trio._devices import check_device_name
from knet_trio.cluster._corosync_syntax import Section
from knet_trio.cluster._draft import DraftHost, MistakeReport, check_tap
from knet_trio.cluster.records import ClusterTap
from knet_trio.errors import InvalidArgumentError, shown

# Corosync's own messages use channel 0.
CHANNEL: Final = 1
DEFAULT_MAC: Final = "54:54:01:00:00:00"
MIN_PREFIX: Final = 8
_OCTET: Final = re.compile("[0-9A-Fa-f]{1,2}")


def read_nozzle(
    root: Section, hosts: list[DraftHost], report: MistakeReport, warn: MistakeReport
) -> ClusterTap | None:
    """Return the tap that a file describes, None if it has none or an invalid one.

    Args:
        root: The sections of the file.
        hosts: All nodes.
        report: Called for each mistake.
        warn: Called for settings that corosync accepts, but that do not work.
    """
    if not root.get_sections("nozzle"):
        return None
    nozzle = root.merge("nozzle")
    name, address, prefix = (nozzle.find(key) for key in ("name", "ipaddr", "ipprefix"))
    if name is None or address is None or prefix is None:
        report("a nozzle needs name, ipaddr and ipprefix: add them", nozzle.place, "nozzle")
        return None
    try:
        device = check_device_name(name.value)
    except InvalidArgumentError as error:
        report(str(error.args[0]), name.place, "nozzle.name")
        return None
    try:
        interface = ip_interface(f"{address.value}/{prefix.value}")
    except ValueError as error:
        report(str(error), address.place, "nozzle.ipaddr")
        return None
    if interface.network.prefixlen < MIN_PREFIX:
        report(
            f"the prefix is too short: use {MIN_PREFIX} or more", prefix.place, "nozzle.ipprefix"
        )
        return None
    mac = nozzle.find("macaddr")
    octets = (DEFAULT_MAC if mac is None else mac.value).split(":")
    if mac is not None and not (len(octets) == 6 and all(map(_OCTET.fullmatch, octets))):
        report(
            f"{shown(mac.value)} is not an Ethernet address: write six octets, such as"
            f" {DEFAULT_MAC}",
            mac.place,
            "nozzle.macaddr",
        )
        return None
    tap = ClusterTap(
        device,
        CHANNEL,
        mac=":".join([*octets[:4], "{high:02x}", "{low:02x}"]),
        addresses=tuple(
            (host.host_id, _put_id(interface, host.host_id))
            for host in hosts
            if host.host_id is not None
        ),
    )
    places = {"address": (address.place, "nozzle.ipaddr")}
    if mac is not None:
        places["mac"] = mac.place, "nozzle.macaddr"
    check_tap(tap, hosts, lambda text, key: warn(text, *places[key]))
    return tap


def _put_id(interface: IPv4Interface | IPv6Interface, host_id: int) -> str:
    """Return the address of a host's device, with the host id in the bits after the prefix."""
    network = interface.network
    address = network.network_address + (host_id & int(network.hostmask))
    return f"{address}/{network.prefixlen}"
