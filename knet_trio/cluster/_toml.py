"""Reading of cluster files in TOML, with all mistakes at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, cast

from knet_trio._compress import make_compressor
from knet_trio._core.acl import AclEntry
from knet_trio._core.onwire import MAX_LINKS
from knet_trio.address import Address, parse_address, parse_address_like
from knet_trio.cluster._crypto_names import CRYPTO_NAMES, CryptoNames
from knet_trio.cluster._draft import DraftHost, Notes, check_hosts, check_links, check_tap
from knet_trio.cluster._key_change import KeyChange, read_keys
from knet_trio.cluster._key_file import KeyFileError, read_key_file
from knet_trio.cluster._keys import (
    CHANNEL_KEYS,
    CLUSTER_KEYS,
    COMPRESS_KEYS,
    CONTROL_KEYS,
    CRYPTO_KEYS,
    HOST_KEYS,
    LINK_KEYS,
    MAX_SOCKET_PATH,
    METRICS_KEYS,
    TABLES,
    TAP_KEYS,
    Key,
    check_entry,
    measure_socket,
    suggest,
)
from knet_trio.cluster._positions import KeyPath, Position, Positions
from knet_trio.cluster._toml_syntax import parse_toml
from knet_trio.cluster.errors import Mistake
from knet_trio.cluster.records import (
    Cluster,
    ClusterChannel,
    ClusterControl,
    ClusterLink,
    ClusterMetrics,
    ClusterTap,
)
from knet_trio.config import CompressConfig, CryptoConfig, is_aead
from knet_trio.errors import InvalidArgumentError, KnetError, shown

DYNAMIC: Final = "dynamic"
MAX_PORT: Final = 0xFFFF
_LINK_NAMES: Final[dict[str | int, str]] = {
    number: f"links[{number}]" for number in range(MAX_LINKS)
}


def read_toml(text: str, path: Path) -> tuple[Cluster | None, list[Mistake]]:
    """Return the cluster that ``text`` describes, or None and the mistakes."""
    parsed = parse_toml(text.replace("\r\n", "\n"))
    if isinstance(parsed, Mistake):
        return None, [parsed]
    reader = _TomlReader(*parsed, path)
    cluster = reader.read()
    mistakes = reader.notes.sorted()
    return (None if mistakes else cluster), mistakes


class _TomlReader:
    """A reader of one document, which notes mistakes and goes on."""

    def __init__(self, document: dict[str, Any], positions: Positions, path: Path) -> None:
        self._document = document
        self._positions = positions
        self._path = path
        self.notes: Final = Notes()
        self._warnings: Final = Notes()
        # The paths of sockets in the file, with the keys that name them.
        self._sockets: Final[dict[Path, str]] = {}
        self._key_file: Path | None = None
        self._key_change: KeyChange | None = None
        self._names = CryptoNames()

    def read(self) -> Cluster:
        """Return the cluster, as far as it could be read."""
        for name in self._document:
            if name not in TABLES:
                self._report((name,), f"there is no such table: {suggest(name, TABLES)}", key=True)
        common = self._read_table(("cluster",), CLUSTER_KEYS)
        crypto = self._read_crypto(("cluster",), common, CryptoNames())
        accepted = self._read_accepted(common, crypto)
        compress = self._read_compress(common)
        port: int = common["port"]
        links = {link_id: self._make_link(link_id, port, common) for link_id in range(MAX_LINKS)}
        hosts = self._read_hosts(links)
        used = tuple(
            link for link in links.values() if any(link.link_id in host.links for host in hosts)
        )
        self._check_ports(port, used)
        check_hosts(hosts, self.notes, self._warnings, has_key=common["key_file"] is not None)
        check_links(used, self._find_link, self._warnings, in_seconds=True)
        tap, channels = self._read_channels(common)
        if tap is not None:
            check_tap(tap, hosts, lambda text, key: self._report(("tap", key), text))
        plain = {
            key.name: common[key.name]
            for key in CLUSTER_KEYS
            if key.name not in _MADE and key.name not in {part.name for part in CRYPTO_KEYS}
        }
        return Cluster(
            hosts=tuple(host.finish() for host in hosts if host.host_id is not None),
            links=used,
            path=self._path,
            crypto=crypto,
            accept_crypto=accepted,
            key_file=self._key_file,
            key_change=self._key_change,
            compress=compress,
            tap=tap,
            channels=channels,
            control=self._read_control(),
            metrics=self._read_metrics(),
            warnings=tuple(self._warnings.sorted()),
            **plain,
        )

    # Tables and their keys.

    def _read_table(self, path: KeyPath, keys: tuple[Key, ...]) -> dict[str, Any]:
        """Return the values of all keys of a table, with defaults for missing ones."""
        table = self._get_table(path)
        values: dict[str, Any] = {key.name: key.default for key in keys}
        known = {key.name: key for key in keys}
        for name, value in table.items():
            key = known.get(name)
            if key is None:
                where = f": {suggest(name, list(known))}"
                self._report((*path, name), f"there is no such key{where}", key=True)
            else:
                values[name] = self._check((*path, name), key, value)
        is_table = isinstance(self._get(path), dict)
        for key in keys:
            if key.required and key.name not in table and is_table:
                self._report(path, f"{key.name} is missing: add it", key=True)
        return values

    def _check(self, path: KeyPath, key: Key, value: object) -> Any:
        try:
            return key.check(value)
        except KnetError as error:
            self._report(path, str(error.args[0]))
            return key.default

    def _get(self, path: KeyPath) -> object:
        found: Any = self._document
        for part in path:
            try:
                found = found[part]
            except (LookupError, TypeError):
                return None
        return found

    def _get_table(self, path: KeyPath) -> dict[str, Any]:
        found = self._get(path)
        if isinstance(found, dict):
            return cast("dict[str, Any]", found)
        if found is not None:
            self._report(
                path,
                f"{path[-1]} is not a table: write {path[-1]} = {{ … }}, or its keys under"
                f" [{_dotted(path)}]",
            )
        return {}

    def _get_tables(self, name: str) -> list[dict[str, Any]]:
        """Return the tables of ``[[name]]``."""
        found = self._document.get(name, [])
        if isinstance(found, list):
            elements = cast("list[object]", found)
            if all(isinstance(element, dict) for element in elements):
                return cast("list[dict[str, Any]]", elements)
        self._report(
            (name,), f"{name} is not a list of tables: write [[{name}]] above each", key=True
        )
        return []

    def _report(self, path: KeyPath, text: str, *, key: bool = False) -> None:
        place = self._positions.find_key(path) if key else self._positions.find_value(path)
        self.notes(text, place, _dotted(path))

    # Crypto and compression.

    def _read_crypto(
        self, path: KeyPath, values: dict[str, Any], base: CryptoNames
    ) -> CryptoConfig | None:
        found = self._get(path)
        table = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
        given = {name: values[name] for name in CRYPTO_NAMES if name in table}
        names = base.change(**given)
        if path == ("cluster",):
            self._names = names
        known = self._check_names(path, table, names)
        if values["key_file"] is not None:
            key_file = self._path.parent / values["key_file"]
            try:
                if path == ("cluster",):
                    key, self._key_change = read_keys(key_file)
                    self._key_file = key_file
                else:
                    key = read_key_file(key_file)
            except KeyFileError as error:
                self._report((*path, "key_file"), str(error.args[0]))
            else:
                change = self._key_change if path == ("cluster",) else None
                if change is not None:
                    # While the key changes, the change file has the names for both keys.
                    names = change.get_names(key) or names
                if known:
                    return names.make(key)
        elif path == ("cluster",):
            for name in CRYPTO_NAMES:
                if name in table and "key_file" not in table:
                    self._report((*path, name), "there is no key: set key_file", key=True)
        return None

    def _check_names(self, path: KeyPath, table: dict[str, Any], names: CryptoNames) -> bool:
        """Return whether the cipher, hash and model exist and go together."""
        try:
            names.check()
        except KnetError as error:
            text = str(error.args[0])
            # The error begins with the name at fault, or says what the model does not have.
            rest = text.partition(" has no ")[2] or text
            about = next((name for name in CRYPTO_NAMES if name in rest.split()[:2]), "hash")
            name = about if about in table else next((n for n in CRYPTO_NAMES if n in table), about)
            self._report((*path, name), text)
            return False
        return True

    def _read_accepted(
        self, common: dict[str, Any], crypto: CryptoConfig | None
    ) -> CryptoConfig | None:
        """Return the second key: that in the file, or that of a change in progress."""
        path = "cluster", "accept_crypto"
        change = self._key_change
        if common["accept_crypto"] is None:
            return None if change is None or crypto is None else change.make_accepted(crypto)
        if change is not None:
            self._report(
                path,
                "knet-trio rekey is changing the key, and a third one is not possible: remove"
                " accept_crypto",
                key=True,
            )
            return None
        keys = tuple(
            Key("key_file", key.check, required=True) if key.name == "key_file" else key
            for key in CRYPTO_KEYS
        )
        accepted = self._read_crypto(path, self._read_table(path, keys), self._names)
        configs = [one for one in (crypto, accepted) if one is not None]
        if len({one.key for one in configs}) < len(configs) and any(
            is_aead(one.model) for one in configs
        ):
            self._report(
                (*path, "key_file"),
                "with model 'aead' the two need different keys: make another one",
            )
        return accepted

    def _read_compress(self, common: dict[str, Any]) -> CompressConfig | None:
        if common["compress"] is None:
            return None
        path = "cluster", "compress"
        values = self._read_table(path, COMPRESS_KEYS)
        if values["model"] is None:
            return None
        config = CompressConfig(**values)
        try:
            make_compressor(config)
        except KnetError as error:
            about = (
                "level" if "level" in str(error.args[0]) and config.level is not None else "model"
            )
            self._report((*path, about), str(error.args[0]))
            return None
        return config

    # Links and hosts.

    def _make_link(self, link_id: int, port: int, common: dict[str, Any]) -> ClusterLink:
        """Return the settings of a link: its own override those of all links."""
        path = "cluster", "links"
        values: dict[str, Any] = {key.name: key.default for key in LINK_KEYS}
        if link_id == 0:
            self._all_links = self._read_given(path, LINK_KEYS)
            self._check_numbers(common)
        values.update(self._all_links)
        values.update(self._read_given(("cluster", "link", str(link_id)), LINK_KEYS))
        if values["port"] is None:
            values["port"] = min(port + link_id, MAX_PORT)
        return ClusterLink(link_id, **values)

    def _check_ports(self, port: int, links: tuple[ClusterLink, ...]) -> None:
        """Note if no valid port remains for a link without a port of its own."""
        for link in links:
            tables = (("cluster", "links"), ("cluster", "link", str(link.link_id)))
            if port + link.link_id > MAX_PORT and not any(
                self._get((*path, "port")) for path in tables
            ):
                self._report(
                    ("cluster", "port"),
                    f"the port of link {link.link_id} would be {port + link.link_id}, and the"
                    f" highest is {MAX_PORT}: choose a lower one",
                )

    def _read_given(self, path: KeyPath, keys: tuple[Key, ...]) -> dict[str, Any]:
        """Return the values in a table, without missing ones."""
        values = self._read_table(path, keys)
        return {
            name: value for name, value in values.items() if self._get((*path, name)) is not None
        }

    def _check_numbers(self, common: dict[str, Any]) -> None:
        """Note tables ``[cluster.link.…]`` that are not for a link."""
        for name in self._get_table(("cluster", "link")) if common["link"] is not None else ():
            if name not in map(str, range(MAX_LINKS)):
                self._report(
                    ("cluster", "link", name),
                    f"{shown(name)} is not a link: write 0 to {MAX_LINKS - 1}, or [cluster.links]"
                    " for all",
                    key=True,
                )

    def _find_link(self, link_id: int) -> tuple[Position, str]:
        for path in (("cluster", "link", str(link_id)), ("cluster", "links")):
            if self._get(path) is not None:
                return self._positions.find_key(path), _dotted(path)
        return self._positions.find_key(("cluster",)), "cluster"

    def _read_hosts(self, links: dict[int, ClusterLink]) -> list[DraftHost]:
        tables = self._get_tables("hosts")
        if self._document.get("hosts", []) == []:
            place = self._positions.find_key(("hosts",))
            self.notes("there are no hosts: add [[hosts]] with id and links for each", place)
        for number, table in enumerate(tables):
            ends = table.get("links")
            if len(tables) > 1 and isinstance(ends, list) and not any(cast("list[object]", ends)):
                self._report(("hosts", number, "links"), "the host has no links: add an address")
        return [self._read_host(number, links) for number in range(len(tables))]

    def _read_host(self, number: int, links: dict[int, ClusterLink]) -> DraftHost:
        path = "hosts", number
        values = self._read_table(path, HOST_KEYS)
        find = self._positions.find_value
        places: dict[str | int, Position] = {
            name: find((*path, name)) for name in self._get_table(path)
        }
        for link_id in range(MAX_LINKS):
            places[link_id] = find((*path, "links", link_id))
        return DraftHost(
            host_id=values["id"],
            name=values["name"],
            links=self._read_links((*path, "links"), values["links"], links),
            allow=self._read_allow((*path, "allow"), values["allow"]),
            place=self._positions.find_key(path),
            places=places,
            key=_dotted(path),
            names=_LINK_NAMES,
            without=self._find_empty(values["links"]),
        )

    def _read_links(
        self, path: KeyPath, value: object, links: dict[int, ClusterLink]
    ) -> dict[int, Address | None]:
        ends: dict[int, Address | None] = {}
        elements = self._read_list(path, value, "addresses, such as ['10.0.0.1', '10.1.0.1']")
        if len(elements) > MAX_LINKS:
            self._report(
                (*path, MAX_LINKS), f"a host has at most {MAX_LINKS} links: remove the others"
            )
        for link_id, element in enumerate(elements[:MAX_LINKS]):
            if element in ("", DYNAMIC):
                if element:
                    ends[link_id] = None
                continue
            try:
                ends[link_id] = _read_address(element, links[link_id].port)
            except InvalidArgumentError as error:
                self._report((*path, link_id), str(error.args[0]))
        return ends

    @staticmethod
    def _find_empty(value: object) -> frozenset[int]:
        elements = cast("list[object]", value) if isinstance(value, list) else []
        return frozenset(number for number, element in enumerate(elements) if element == "")

    def _read_allow(self, path: KeyPath, value: object) -> Any:
        if value is None:
            return None
        entries: list[AclEntry] = []
        for number, element in enumerate(self._read_list(path, value, "addresses and networks")):
            try:
                entry = check_entry(element)
            except KnetError as error:
                self._report((*path, number), str(error.args[0]))
                continue
            if any((entry.first, entry.last) == (other.first, other.last) for other in entries):
                self._report(
                    (*path, number), "an entry before has the same addresses: remove one of them"
                )
            else:
                entries.append(entry)
        return tuple(entries)

    def _read_list(self, path: KeyPath, value: object, what: str) -> list[object]:
        if value is None:
            return []
        if isinstance(value, list):
            return cast("list[object]", value)
        self._report(path, f"{shown(value)} is not a list: write one of {what}")
        return []

    # Channels, and their tap and sockets.

    def _read_channels(
        self, common: dict[str, Any]
    ) -> tuple[ClusterTap | None, tuple[ClusterChannel, ...]]:
        taken: dict[int, str] = {}
        if common["service_channel"] is not None:
            taken[common["service_channel"]] = "cluster.service_channel"
        tap = None
        if "tap" in self._document:
            values = self._read_table(("tap",), TAP_KEYS)
            self._take_channel(taken, ("tap", "channel"), values["channel"])
            if values["name"] is not None and values["channel"] is not None:
                tap = ClusterTap(**values)
        channels: list[ClusterChannel] = []
        for number in range(len(self._get_tables("channels"))):
            path = "channels", number
            values = self._read_table(path, CHANNEL_KEYS)
            self._take_channel(taken, (*path, "channel"), values["channel"])
            if values["channel"] is None or values["socket"] is None:
                continue
            self._take_socket((*path, "socket"), values)
            channels.append(ClusterChannel(**values))
        return tap, tuple(channels)

    def _take_socket(self, path: KeyPath, values: dict[str, Any]) -> None:
        """Resolve the path of a socket relative to the file, and note one used twice."""
        if values["socket"] is None:
            return
        key = _dotted(path)
        values["socket"] = self._path.parent / values["socket"]
        size = measure_socket(values["socket"].absolute())
        if size > MAX_SOCKET_PATH:
            place = self._positions.find_value(path)
            self._warnings(
                f"with the directory of this file the path has {size} bytes: use at most"
                f" {MAX_SOCKET_PATH}",
                place,
                key,
            )
        other = self._sockets.setdefault(values["socket"], key)
        if other != key:
            self._report(path, f"{other} has the same socket: choose another path")

    def _take_channel(self, taken: dict[int, str], path: KeyPath, channel: int | None) -> None:
        if channel is None:
            return
        key = _dotted(path)
        other = taken.setdefault(channel, key)
        if other != key:
            self._report(path, f"channel {channel} is taken by {other}: choose another one")

    def _read_control(self) -> ClusterControl:
        values = self._read_table(("control",), CONTROL_KEYS)
        self._take_socket(("control", "socket"), values)
        return ClusterControl(**values)

    def _read_metrics(self) -> ClusterMetrics | None:
        if "metrics" not in self._document:
            return None
        values = self._read_table(("metrics",), METRICS_KEYS)
        return None if values["listen"] is None else ClusterMetrics(**values)


def read_crypto_names(text: str) -> CryptoNames | None:
    """Return the cipher, hash and model in ``text``, None if it is not a cluster file."""
    parsed = parse_toml(text.replace("\r\n", "\n"))
    table = None if isinstance(parsed, Mistake) else parsed[0].get("cluster")
    if not isinstance(table, dict):
        return None
    fields = cast("dict[str, object]", table)
    if not all(isinstance(fields.get(name, ""), str) for name in CRYPTO_NAMES):
        return None
    given = {name: str(fields[name]) for name in CRYPTO_NAMES if name in fields}
    return CryptoNames().change(**given)


# Keys of [cluster] that are not copied unchanged into a field of the records.
_MADE: Final = {"accept_crypto", "compress", "port", "links", "link"}


def _read_address(value: object, port: int) -> Address:
    """Return the address in ``value``, with ``port`` if it has none."""
    if not isinstance(value, str):
        raise InvalidArgumentError(
            f"{shown(value)} is not an address: write '10.0.0.1', '10.0.0.1:5405', '{DYNAMIC}', or"
            " '' for no link"
        )
    if value.startswith("[") or value.count(":") == 1:
        address = parse_address_like(value)
        if not address.port:
            raise InvalidArgumentError(
                f"{shown(value)} has no valid port: write one from 1 to {MAX_PORT}, or none"
            )
        return address
    if not any(character in value for character in ".:"):
        raise InvalidArgumentError(
            f"{shown(value)} is neither an address nor {DYNAMIC!r}: {suggest(value, [DYNAMIC])}"
        )
    return parse_address(value, port)


def _dotted(path: KeyPath) -> str:
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text
