"""Conversion of a corosync.conf(5) and its authkey to a cluster file.

The defaults are those of the manual page, and where it names none, those of corosync 3.1.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any, Final

from knet_trio._compress import make_compressor
from knet_trio._core.onwire import MAX_HOST_ID, MAX_LINKS
from knet_trio._core.policy import LinkPolicy
from knet_trio._crypto.envelope import MODELS as CRYPTO_MODELS
from knet_trio._settings import MAX_DSCP, check_mtu, check_pmtud_interval
from knet_trio.address import Address, parse_address
from knet_trio.cluster._corosync_keys import IGNORED, INNER, SECTIONS, USED
from knet_trio.cluster._corosync_nozzle import read_nozzle
from knet_trio.cluster._corosync_syntax import Entry, Section, parse_corosync
from knet_trio.cluster._draft import DraftHost, Notes, check_hosts, check_links
from knet_trio.cluster._key_change import KeyChange, read_keys
from knet_trio.cluster._key_file import KeyFileError, is_open_to_others
from knet_trio.cluster._keys import check_name, check_transport, suggest
from knet_trio.cluster._positions import Position
from knet_trio.cluster.errors import Mistake
from knet_trio.cluster.records import DEFAULT_PORT, Cluster, ClusterLink
from knet_trio.config import (
    MAX_KEY_SIZE,
    MAX_LATENCY_SAMPLES,
    MAX_PONG_COUNT,
    MAX_PRIORITY,
    MIN_KEY_SIZE,
    CompressConfig,
    CryptoConfig,
)
from knet_trio.errors import KnetError, shown

DEFAULT_KEY_FILE: Final = Path("/etc/corosync/authkey")
DEFAULT_TOKEN: Final = 3000
DEFAULT_TOKEN_COEFFICIENT: Final = 650
DEFAULT_PONG_COUNT: Final = 2
DEFAULT_PRIORITY: Final = 1
DEFAULT_LATENCY_SAMPLES: Final = 2048
DEFAULT_PMTUD_INTERVAL: Final = 30

_CIPHERS: Final = ("none", "aes256", "aes192", "aes128")
_HASHES: Final = ("none", "md5", "sha1", "sha256", "sha384", "sha512")
_MODES: Final = {
    "passive": LinkPolicy.PASSIVE,
    "active": LinkPolicy.ACTIVE,
    "rr": LinkPolicy.ROUND_ROBIN,
}
_FAMILIES: Final = {
    "ipv4": (socket.AF_INET,),
    "ipv6": (socket.AF_INET6,),
    "ipv4-6": (socket.AF_INET, socket.AF_INET6),
    "ipv6-4": (socket.AF_INET6, socket.AF_INET),
}
# Python refuses to read an integer of thousands of digits.
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,100}")
_U32: Final = 2**32 - 1
_NODE_NAMES: Final[dict[str | int, str]] = {
    "id": "nodeid",
    **{number: f"ring{number}_addr" for number in range(MAX_LINKS)},
}


def read_corosync(text: str, path: Path) -> tuple[Cluster | None, list[Mistake]]:
    """Return the cluster that ``text`` describes, or None and the mistakes."""
    notes = Notes()
    root = parse_corosync(text.replace("\r\n", "\n"), notes)
    mistakes = notes.sorted()
    if mistakes:
        return None, mistakes
    reader = _CorosyncReader(root, path)
    cluster = reader.read()
    mistakes = reader.notes.sorted()
    return (None if mistakes else cluster), mistakes


class _CorosyncReader:
    """A reader of the sections of one file, which notes mistakes and goes on."""

    def __init__(self, root: Section, path: Path) -> None:
        self._root = root
        self._path = path
        self._totem = root.merge("totem")
        self.notes: Final = Notes()
        self._warnings: Final = Notes()
        self._key_file: Path | None = None
        self._key_change: KeyChange | None = None

    def read(self) -> Cluster:
        """Return the cluster, as far as it could be read."""
        self._warn_of_unknown_keys()
        self._check_totem()
        interfaces = self._read_interfaces()
        nodes = self._root.merge("nodelist").get_sections("node")
        links = self._read_links(interfaces, self._read_token(len(nodes)))
        hosts = self._read_nodes(nodes, links)
        ids = sorted({link_id for host in hosts for link_id in host.links})
        used = tuple(links[link_id] for link_id in ids)
        check_hosts(hosts, self.notes, self._warnings, has_key=True)
        for link_id, interface in interfaces.items():
            if link_id not in ids and ids:
                self.notes(
                    f"no node has ring{link_id}_addr, the address of this link",
                    interface.place,
                    "totem.interface",
                )
        check_links(
            used,
            lambda link_id: self._find_link(interfaces, link_id),
            self._warnings,
            in_seconds=False,
        )
        crypto = self._read_crypto()
        change = self._key_change
        return Cluster(
            hosts=tuple(host.finish() for host in hosts if host.host_id is not None),
            links=used,
            path=self._path,
            name=self._text("cluster_name"),
            crypto=crypto,
            accept_crypto=change.make_accepted(crypto) if change and crypto else None,
            key_file=self._key_file,
            key_change=change,
            policy=_MODES[self._choice(self._totem, "link_mode", tuple(_MODES), "passive")],
            compress=self._read_compress(),
            access_lists=self._read_yes(self._totem, "block_unlisted_ips", default=True),
            privileged=not self._read_yes(
                self._root.merge("system"), "allow_knet_handle_fallback", default=False
            ),
            mtu=self._read_mtu(),
            pmtud_interval=self._read_pmtud_interval(),
            dscp=self._integer(self._totem, "ip_dscp", 0, 0, MAX_DSCP),
            tap=read_nozzle(self._root, hosts, self.notes, self._warnings),
            warnings=tuple(self._warnings.sorted()),
            is_corosync=True,
        )

    # Values.

    def _text(self, key: str, default: str = "") -> str:
        entry = self._totem.find(key)
        return default if entry is None else entry.value

    def _integer(self, section: Section, key: str, default: int, low: int, high: int) -> int:
        entry = section.find(key)
        if entry is None:
            return default
        if _INTEGER.fullmatch(entry.value) and low <= int(entry.value) <= high:
            return int(entry.value)
        self.notes(
            f"{shown(entry.value)} is not an integer from {low} to {high}",
            entry.place,
            f"{section.name}.{key}",
        )
        return default

    def _choice(self, section: Section, key: str, known: tuple[str, ...], default: str) -> str:
        entry = section.find(key)
        if entry is None:
            return default
        if entry.value in known:
            return entry.value
        self.notes(
            f"{shown(entry.value)} is not a {key}: {suggest(entry.value, known)}",
            entry.place,
            f"{section.name}.{key}",
        )
        return default

    def _read_yes(self, section: Section, key: str, *, default: bool) -> bool:
        return self._choice(section, key, ("yes", "no"), "yes" if default else "no") == "yes"

    def _check(self, entry: Entry, check: Any, *arguments: Any) -> Any:
        """Return the result of ``check``; note a mistake and return None if it raises."""
        try:
            return check(*arguments)
        except (KnetError, ValueError) as error:
            self.notes(str(error.args[0]), entry.place, entry.key)
            return None

    # The whole file.

    def _warn_of_unknown_keys(self) -> None:
        for entry in self._root.entries:
            self._warnings("this key is outside any section: it is ignored", entry.place, entry.key)
        for section in self._root.sections:
            self._warn_of_section(section, SECTIONS)
            self._warn_of_keys(section, section.name)
            for inner in section.sections:
                if section.name in INNER:
                    self._warn_of_section(inner, INNER[section.name], section.name)
                self._warn_of_keys(inner, f"{section.name}.{inner.name}")

    def _warn_of_section(self, section: Section, known: tuple[str, ...], around: str = "") -> None:
        if section.name not in known:
            where = f" in {around}" if around else ""
            self._warnings(
                f"{shown(section.name)} is not a section of corosync{where}, and is ignored:"
                f" {suggest(section.name, known)}",
                section.place,
            )

    def _warn_of_keys(self, section: Section, name: str) -> None:
        if name not in USED:
            return
        known = USED[name] | IGNORED[name]
        for entry in section.entries:
            if entry.key not in known:
                self._warnings(
                    "this is not a key of corosync, and is ignored:"
                    f" {suggest(entry.key, sorted(known))}",
                    entry.place,
                    f"{name}.{entry.key}",
                )

    def _check_totem(self) -> None:
        totem = self._totem
        version = totem.find("version")
        if version is None:
            self.notes("add version: 2 to totem { }", totem.place, "totem")
        elif version.value != "2":
            self.notes(
                f"{shown(version.value)} is not a version: write 2", version.place, "totem.version"
            )
        transport = totem.find("transport")
        if transport is not None and transport.value != "knet":
            self.notes(
                f"transport {shown(transport.value)} does not use knet's protocol: use a cluster"
                " with transport knet",
                transport.place,
                "totem.transport",
            )

    def _read_token(self, nodes: int) -> int:
        """Return the effective token timeout, in milliseconds."""
        token = self._integer(self._totem, "token", DEFAULT_TOKEN, 0, _U32) or DEFAULT_TOKEN
        coefficient = self._integer(
            self._totem, "token_coefficient", DEFAULT_TOKEN_COEFFICIENT, 0, _U32
        )
        return token + max(nodes - 2, 0) * coefficient

    # Crypto and compression.

    def _read_crypto(self) -> CryptoConfig | None:
        totem = self._totem
        secure = self._choice(totem, "secauth", ("on", "off"), "off") == "on"
        cipher = self._choice(totem, "crypto_cipher", _CIPHERS, "aes256" if secure else "none")
        digest = self._choice(totem, "crypto_hash", _HASHES, "sha256" if secure else "none")
        model = self._choice(totem, "crypto_model", tuple(CRYPTO_MODELS), "nss")
        if digest == "none":
            entry = totem.find("crypto_cipher")
            if cipher != "none":
                place = totem.place if entry is None else entry.place
                self.notes(
                    "a cipher needs a hash: set crypto_hash, such as sha256",
                    place,
                    "totem.crypto_cipher",
                )
            return None
        key = self._read_key()
        return None if key is None else CryptoConfig(key, cipher, digest, model)

    def _read_key(self) -> bytes | None:
        entry, inline = self._totem.find("keyfile"), self._totem.find("key")
        if entry is None and inline is not None:
            size = len(inline.value.encode())
            if MIN_KEY_SIZE <= size <= MAX_KEY_SIZE:
                return inline.value.encode()
            self.notes(
                f"the key has {size} bytes: use {MIN_KEY_SIZE} to {MAX_KEY_SIZE}",
                inline.place,
                "totem.key",
            )
            return None
        path = DEFAULT_KEY_FILE if entry is None else Path(entry.value)
        beside = self._path.parent / DEFAULT_KEY_FILE.name
        if entry is None and not path.exists() and beside.exists():
            path = beside
        place = self._totem.place if entry is None else entry.place
        try:
            key, self._key_change = read_keys(path, secret=False)
            is_open = is_open_to_others(path)
        except KeyFileError as error:
            self.notes(str(error.args[0]), place, "totem.keyfile")
            return None
        self._key_file = path
        if is_open:
            self._warnings(
                f"other users may read or write {path}: chmod 400 it", place, "totem.keyfile"
            )
        return key

    def _read_compress(self) -> CompressConfig | None:
        entry = self._totem.find("knet_compression_model")
        threshold = self._integer(self._totem, "knet_compression_threshold", 0, 0, 65536)
        level: int | None = self._integer(
            self._totem, "knet_compression_level", 0, -(2**31), 2**31 - 1
        )
        if self._totem.find("knet_compression_level") is None:
            level = None
        if entry is None or entry.value == "none":
            return None
        config = CompressConfig(entry.value, level, threshold)
        return config if self._check(entry, make_compressor, config) is not None else None

    # Links.

    def _read_interfaces(self) -> dict[int, Section]:
        """Return the interface sections by link number."""
        found: dict[int, Section] = {}
        for section in self._totem.get_sections("interface"):
            key = "linknumber" if section.find("linknumber") else "ringnumber"
            number = self._integer(section, key, 0, 0, MAX_LINKS - 1)
            merged = found.setdefault(number, Section("totem.interface", section.place))
            merged.entries.extend(section.entries)
        return found

    def _find_link(self, interfaces: dict[int, Section], link_id: int) -> tuple[Position, str]:
        section = interfaces.get(link_id)
        return (self._totem.place, "totem") if section is None else (section.place, section.name)

    def _read_links(self, interfaces: dict[int, Section], token: int) -> dict[int, ClusterLink]:
        empty = Section("totem.interface", self._totem.place)
        return {
            link_id: self._read_link(interfaces.get(link_id, empty), link_id, token)
            for link_id in range(MAX_LINKS)
        }

    def _read_link(self, section: Section, link_id: int, token: int) -> ClusterLink:
        def number(key: str, default: int, low: int, high: int) -> int:
            return self._integer(section, key, default, low, high)

        # For corosync zero means not set.
        pongs = number("knet_pong_count", 0, 0, MAX_PONG_COUNT) or DEFAULT_PONG_COUNT
        interval = number("knet_ping_interval", 0, 0, _U32) or max(token // (pongs * 2), 1)
        timeout = number("knet_ping_timeout", 0, 0, _U32) or max(token // pongs, 1)
        return ClusterLink(
            link_id,
            port=number("mcastport", DEFAULT_PORT + link_id, 1, 0xFFFF),
            transport=self._read_transport(section),
            priority=number("knet_link_priority", 0, 0, MAX_PRIORITY) or DEFAULT_PRIORITY,
            ping_interval=interval / 1000,
            pong_timeout=timeout / 1000,
            latency_samples=number("knet_ping_precision", 0, 0, MAX_LATENCY_SAMPLES)
            or DEFAULT_LATENCY_SAMPLES,
            pong_count=pongs,
            # Corosync marks all its packets with a DSCP.
            high_priority=True,
        )

    def _read_transport(self, section: Section) -> str:
        transport = self._choice(section, "knet_transport", ("udp", "sctp"), "udp")
        entry = section.find("knet_transport")
        if entry is not None and self._check(entry, check_transport, transport) is None:
            return "udp"
        return transport

    def _read_mtu(self) -> int | None:
        entry = self._totem.find("knet_mtu")
        mtu = self._integer(self._totem, "knet_mtu", 0, 0, _U32)
        result: int | None = None if entry is None else self._check(entry, check_mtu, mtu)
        return result

    def _read_pmtud_interval(self) -> float:
        default = DEFAULT_PMTUD_INTERVAL
        entry = self._totem.find("knet_pmtud_interval")
        seconds = self._integer(self._totem, "knet_pmtud_interval", default, 0, _U32) or default
        if entry is not None and self._check(entry, check_pmtud_interval, seconds) is None:
            return float(default)
        return float(seconds)

    # Nodes.

    def _read_nodes(self, nodes: list[Section], links: dict[int, ClusterLink]) -> list[DraftHost]:
        if not nodes:
            place = self._root.merge("nodelist").place
            self.notes(
                "there are no nodes: add a node { } for each to nodelist { }", place, "nodelist"
            )
        families = _FAMILIES[self._choice(self._totem, "ip_version", tuple(_FAMILIES), "ipv6-4")]
        hosts = [
            self._read_node(number, node, links, families) for number, node in enumerate(nodes)
        ]
        rings = [self._get_rings(node) for node in nodes]
        several = any(len(ring) > 1 for ring in rings)
        for host, node, ring in zip(hosts, nodes, rings, strict=True):
            if ring != rings[0]:
                self.notes(
                    "its links differ from those of the first node: give every node the same"
                    " ringN_addr keys",
                    node.place,
                    host.key,
                )
            if several and host.name is None:
                self.notes(
                    "with several links each node needs a name: add name", node.place, host.key
                )
        return hosts

    @staticmethod
    def _get_rings(node: Section) -> list[int]:
        return [
            number for number in range(MAX_LINKS) if node.find(f"ring{number}_addr") is not None
        ]

    def _read_node(
        self,
        number: int,
        node: Section,
        links: dict[int, ClusterLink],
        families: tuple[socket.AddressFamily, ...],
    ) -> DraftHost:
        key = f"nodelist.node[{number}]"
        places: dict[str | int, Position] = {}
        for mine, theirs in (("id", "nodeid"), ("name", "name")):
            entry = node.find(theirs)
            if entry is not None:
                places[mine] = entry.place
        host_id = None
        if node.find("nodeid") is None:
            self.notes("nodeid is missing: add it", node.place, key)
        else:
            host_id = self._integer(node, "nodeid", 0, 1, MAX_HOST_ID) or None
        named = node.find("name")
        name = None if named is None else self._check(named, check_name, named.value)
        ends: dict[int, Address | None] = {}
        for link_id in self._get_rings(node):
            entry = node.find(f"ring{link_id}_addr")
            assert entry is not None
            places[link_id] = entry.place
            address = self._resolve(entry, links[link_id].port, families, key)
            if address is not None:
                ends[link_id] = address
        if node.find("ring0_addr") is None:
            self.notes("ring0_addr is missing: add it", node.place, key)
        return DraftHost(host_id, name, ends, (), node.place, places, key, _NODE_NAMES)

    def _resolve(
        self, entry: Entry, port: int, families: tuple[socket.AddressFamily, ...], key: str
    ) -> Address | None:
        """Return the address that corosync uses: the first of the preferred family."""
        found: list[tuple[socket.AddressFamily, str]] = []
        why = "it has no address"
        for family in families:
            try:
                answers = socket.getaddrinfo(entry.value, None, family, socket.SOCK_DGRAM)
            except (OSError, ValueError) as error:
                why = str(error.args[-1])
                continue
            found += [(family, str(answer[4][0])) for answer in answers]
        if not found:
            self.notes(
                f"{shown(entry.value)} is not an address, nor a name that can be resolved: {why}",
                entry.place,
                f"{key}.{entry.key}",
            )
            return None
        address: Address | None = self._check(entry, parse_address, found[0][1], port)
        return address
