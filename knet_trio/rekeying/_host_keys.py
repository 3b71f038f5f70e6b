"""The keys of this host: in its files, in its crypto slots, and in its copy of the cluster file.

The files are written first. So a host that is killed in between starts again in the same phase,
a little earlier or later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVarTuple, Unpack

import attrs
import trio

from knet_trio import CryptoConfig, HostStatus, InvalidArgumentError
from knet_trio.cluster import Cluster, CryptoNames, KeyChange, KeyFileError
from knet_trio.cluster._load import load_crypto_names

Ts = TypeVarTuple("Ts")

SLOTS = 2

ONLY_THE_KEY = (
    "with a corosync.conf only the key can be changed like this: corosync's nodes read cipher and"
    " hash from the file, and do not have model aead"
)
"""The reason why cipher, hash and model cannot change with a corosync.conf."""


class CryptoHost(Protocol):
    """The parts of a host that are used here."""

    @property
    def status(self) -> HostStatus:
        """The status of the host, with its reachability."""
        ...

    def confirmed(self, slot: int) -> bool:
        """Return whether the host has answered with a configuration of model ``aead``."""
        ...


class CryptoHandle(Protocol):
    """The parts of a handle that are used here."""

    @property
    def crypto_in_use(self) -> int:
        """The slot that packets are sealed with."""
        ...

    @property
    def allow_clear_traffic(self) -> bool:
        """True if packets in the clear are accepted."""
        ...

    @property
    def hosts(self) -> Mapping[int, CryptoHost]:
        """The hosts, by id."""
        ...

    def set_crypto(self, config: CryptoConfig | None, slot: int = 1) -> None:
        """Put a configuration into a slot."""
        ...

    def use_crypto(self, slot: int) -> None:
        """Seal with a slot."""
        ...


class ClusterHolder(Protocol):
    """The holder of the version of the cluster file that a handle runs."""

    cluster: Cluster
    lock: trio.Lock


class KeyFiles(Protocol):
    """The key file and the change file; ``cluster.KeyChangeFiles`` has those on the disk."""

    def read_key(self) -> bytes:
        """Return the key in the key file."""
        ...

    def write_change(self, change: KeyChange) -> None:
        """Write the change file."""
        ...

    def write_key(self, key: bytes) -> None:
        """Write the key file."""
        ...

    def remove_change(self) -> None:
        """Remove the change file."""
        ...


class Run(Protocol):
    """A function that runs work which waits for the disk."""

    async def __call__(self, work: Callable[[Unpack[Ts]], object], /, *args: *Ts) -> object:
        """Call ``work`` and return its result."""
        ...


class HostKeys:
    """The keys of this host.

    Args:
        handle: The handle.
        opened: The holder of the cluster file.
        make_files: Returns the key file and the change file of a cluster.
        run: Runs work that waits for the disk.
    """

    def __init__(
        self,
        handle: CryptoHandle,
        opened: ClusterHolder,
        make_files: Callable[[Cluster], KeyFiles],
        run: Run,
    ) -> None:
        self._handle = handle
        self._opened = opened
        self._make_files = make_files
        self._run = run

    @property
    def lock(self) -> trio.Lock:
        """The lock held during a change of the keys or a reload of the cluster file."""
        return self._opened.lock

    @property
    def cluster(self) -> Cluster:
        """The version of the cluster file that the handle runs."""
        return self._opened.cluster

    @property
    def key(self) -> bytes:
        """The key that packets are sealed with, empty for none."""
        crypto = self.cluster.crypto
        return b"" if crypto is None else crypto.key

    @property
    def change(self) -> KeyChange | None:
        """The change in progress, None for none."""
        return self.cluster.key_change

    def find_obstacle(self) -> str | None:
        """Return the reason why the key cannot be changed, None if it can."""
        cluster, handle = self.cluster, self._handle
        if cluster.crypto is None or handle.crypto_in_use == 0:
            return "there is no key to change, since packets are sent in the clear: set key_file"
        if cluster.crypto.cipher == "none":
            return (
                "cipher none does not encrypt, so a new key cannot be sent: copy a new key file to"
                " all hosts"
            )
        if handle.allow_clear_traffic:
            return (
                "packets in the clear are accepted, so anybody could change the key: set"
                " allow_clear_traffic to false first"
            )
        if cluster.key_file is None:
            return "the key is not from a key file, where a new one could be written: set key_file"
        if cluster.accept_crypto is not None and cluster.key_change is None:
            return (
                "accept_crypto already has a second key: finish that change of the key and remove"
                " accept_crypto first"
            )
        return None

    async def begin(self, change: KeyChange) -> None:
        """Accept the new key of a change, beside the key in use.

        Raises:
            KeyFileError: A file cannot be written or read, or the key file has another key.
            InvalidArgumentError: The cipher, hash or model does not exist.
        """
        files, crypto = self._make_files(self.cluster), self.cluster.crypto
        assert crypto is not None
        if change.new_names is not None:
            change.new_names.check()
            if self.cluster.is_corosync:
                raise KeyFileError(ONLY_THE_KEY)
        await self._check_key_file(files)
        await self._run(files.write_change, change)
        accepted = change.make_accepted(crypto)
        self._handle.set_crypto(accepted, SLOTS + 1 - self._handle.crypto_in_use)
        self._note(crypto, accepted, change)

    async def _check_key_file(self, files: KeyFiles) -> None:
        """Raise KeyFileError if the key file does not have the key in use."""
        if await self._run(files.read_key) != self.key:
            raise KeyFileError(
                "the key in the key file is not the one that this host uses: reload the cluster"
                " file first"
            )

    async def check_file(self, key: bytes) -> None:
        """Check that the cluster file has the names for ``key`` that are valid after the change.

        Raises:
            KeyFileError: The file has other names.
            ClusterFileError: The file cannot be read.
        """
        path, change = self.cluster.path, self.change
        names = None if change is None else change.get_names(key)
        if names is None or path is None:
            return
        in_file = await self._run(load_crypto_names, path)
        assert isinstance(in_file, CryptoNames)
        try:
            in_file.check()
        except InvalidArgumentError as error:
            raise KeyFileError(f"its cluster file {path} is not valid: {error.args[0]}") from error
        if not in_file.is_same_envelope(names):
            raise KeyFileError(
                f"its cluster file {path} has {in_file.describe()}, not {names.describe()}:"
                f" {names.describe_edit(in_file)}"
            )

    def find_unconfirmed(self, new: bytes) -> list[int] | None:
        """Return the reachable hosts that have not answered under a key of model ``aead``.

        Args:
            new: The key.

        Returns:
            The ids of the hosts, None if this host does not have the key.
        """
        slot = self._handle.crypto_in_use
        if self.key != new:
            if self.change is None or self.change.new != new:
                return None
            slot = SLOTS + 1 - slot
        return [
            host_id
            for host_id, host in self._handle.hosts.items()
            if host.status.reachable and not host.confirmed(slot)
        ]

    async def adopt(self) -> None:
        """Write the new key to the key file, and seal with it.

        Raises:
            KeyFileError: The key file cannot be written.
        """
        change, crypto, other = self.change, self.cluster.crypto, self.cluster.accept_crypto
        assert change is not None
        assert other is not None
        await self._run(self._make_files(self.cluster).write_key, change.new)
        self._handle.use_crypto(SLOTS + 1 - self._handle.crypto_in_use)
        self._note(other, crypto, change)

    async def finish(self) -> None:
        """Drop the key that is not in use, and remove the change file.

        Raises:
            KeyFileError: A file cannot be removed, or the cluster file does not fit the key in use.
            ClusterFileError: The cluster file cannot be read.
        """
        await self.check_file(self.key)
        await self._run(self._make_files(self.cluster).remove_change)
        self._handle.set_crypto(None, SLOTS + 1 - self._handle.crypto_in_use)
        self._note(self.cluster.crypto, None, None)

    def _note(
        self, crypto: CryptoConfig | None, accepted: CryptoConfig | None, change: KeyChange | None
    ) -> None:
        self._opened.cluster = attrs.evolve(
            self.cluster, crypto=crypto, accept_crypto=accepted, key_change=change
        )
