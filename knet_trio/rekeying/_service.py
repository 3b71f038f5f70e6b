"""The service for changes of the key, which a program runs for its handle."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import MappingProxyType
from typing import Any, Final, cast, final

import trio

from knet_trio import Handle, InvalidArgumentError, KnetError
from knet_trio._constructors import NoPublicConstructor, construct
from knet_trio._opening import opens
from knet_trio.cluster import Cluster, KeyChangeFiles
from knet_trio.cluster._crypto_names import CRYPTO_NAMES
from knet_trio.cluster._opening import get_opened
from knet_trio.config import is_aead
from knet_trio.control.codec import Json, to_json
from knet_trio.control.key_changes import reporting_key_change
from knet_trio.rekeying._coordinator import Coordinator
from knet_trio.rekeying._host_keys import HostKeys, KeyFiles
from knet_trio.rekeying._messages import (
    MAX_REQUEST,
    BadMessageError,
    RekeyAnswer,
    RekeyQuestion,
    decode_answer,
    decode_question,
    encode,
)
from knet_trio.rekeying._participant import Participant
from knet_trio.rekeying._progress import NoAnswer
from knet_trio.rekeying._wanted import find_names
from knet_trio.rekeying.errors import RekeyError
from knet_trio.rekeying.records import HostOutcome, RekeyReport
from knet_trio.streams import HostRequest, RefusedError, RequestReceiver, Streams, open_streams

DEFAULT_PATIENCE: Final = 10.0
"""Seconds in which a host has to answer."""
AT_ONCE: Final = 32
"""The most requests of other hosts in progress at once; others wait."""
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
# Seconds before a request that a host did not accept is sent again.
_AGAIN: Final = 0.25


@final
class Rekeying(metaclass=NoPublicConstructor):
    """Changes the key of all hosts. Returned by ``serve_rekeying``."""

    _MADE_BY = "knet_trio.rekeying.serve_rekeying()"
    __slots__ = ("__weakref__", "_handle", "_participant", "_patience", "_streams")

    def __init__(
        self, handle: Handle, participant: Participant, streams: Streams | None, patience: float
    ) -> None:
        self._handle = handle
        self._participant = participant
        self._streams = streams
        self._patience = patience

    async def rekey(
        self,
        *,
        exclude: Iterable[int | str] = (),
        model: str | None = None,
        cipher: str | None = None,
        hash: str | None = None,
    ) -> RekeyReport:
        """Give all hosts of the cluster file a new key, or go on with a change that has begun.

        Every host first accepts the new key beside the old one (set), then writes it to its key
        file and seals with it (use), then drops the old one (clear). Each phase begins when every
        host has confirmed the phase before, so no message is lost. If a host does not answer, the
        change stops before the next phase, and the same call, at any host, goes on with it later.
        So does a call after one that was cancelled.

        If model, cipher or hash change too, the change stops before the last phase until the
        cluster file of every host has the new names. A new key of model ``aead`` is used when all
        hosts have answered each other under it.

        Args:
            exclude: The ids or names of hosts to leave out, because they are gone for good, or
                their key is changed by hand. They receive no requests.
            model: The new model, None to keep it.
            cipher: The new cipher. None keeps it, or if the model changes to or from ``aead``,
                chooses the default of the new model.
            hash: The new hash. None does the same as for ``cipher``.

        Returns:
            The progress of the change, with the outcome at each host.

        Raises:
            RekeyBusyError: Another host is changing the key, or this host in another call.
            RekeyError: The key cannot be changed.
            InvalidArgumentError: The cipher, hash or model does not exist.
            UnknownHostError: An excluded host is not in the cluster file.
        """
        wanted = {"model": model, "cipher": cipher, "hash": hash}
        given: dict[str, str] = {}
        for name, value in wanted.items():
            if value is not None:
                given[name] = _check_text(name, value).lower()
        return await self._coordinate(exclude, given).rekey()

    async def drop(self, *, exclude: Iterable[int | str] = ()) -> None:
        """Make all hosts drop a new key that none of them uses yet.

        Args:
            exclude: The ids or names of hosts to leave out.

        Raises:
            RekeyBusyError: Another host is changing the key, or this host in another call.
            RekeyError: No change has begun, or a host uses the new key already, does not answer or
                refuses.
            UnknownHostError: An excluded host is not in the cluster file.
        """
        await self._coordinate(exclude).drop()

    async def status(self, *, exclude: Iterable[int | str] = ()) -> RekeyReport | None:
        """Return the progress of the change that has begun, and change nothing.

        All hosts are asked, also while another host changes the key.

        Args:
            exclude: The ids or names of hosts not to ask.

        Returns:
            The progress, None if no host has begun a change.

        Raises:
            RekeyError: The key cannot be changed, or the change has ended meanwhile.
            UnknownHostError: An excluded host is not in the cluster file.
        """
        return await self._coordinate(exclude).status()

    async def answer_control(self, parameters: dict[str, Any]) -> Json:
        """Answer the method ``rekey`` of the control socket, for ``serve_control(rekey=)``.

        Args:
            parameters: ``exclude``, a list of ids and names; ``drop`` and ``status``, true or
                false; ``model``, ``cipher`` and ``hash``, text. All may be left out.

        Returns:
            The members of a ``RekeyReport``; null after ``drop``, and after ``status`` if no change
            is in progress.

        Raises:
            InvalidArgumentError: A parameter is unknown or not valid.
            KnetError: The errors of ``rekey``, ``drop`` and ``status``.
        """
        unknown = parameters.keys() - {"exclude", "drop", "status", *CRYPTO_NAMES}
        if unknown:
            raise InvalidArgumentError(
                f"rekey has no parameter {min(unknown)[:80]!r}: its parameters are exclude, drop,"
                " status, model, cipher and hash"
            )
        exclude = parameters.get("exclude", [])
        if not isinstance(exclude, list) or not all(
            type(one) in (int, str) for one in cast("list[object]", exclude)
        ):
            raise InvalidArgumentError(
                "exclude is not valid: give a list of ids and names of hosts"
            )
        drop, status = (_get_flag(parameters, name) for name in ("drop", "status"))
        hosts = cast("list[int | str]", exclude)
        names: dict[str, str] = {}
        for name in CRYPTO_NAMES:
            value = parameters.get(name)
            if value is not None:
                names[name] = _check_text(name, value)
        if (drop or status) and names:
            raise InvalidArgumentError(
                f"{'drop' if drop else 'status'} begins no change: leave out model, cipher and hash"
            )
        if drop and status:
            raise InvalidArgumentError("status changes nothing: leave out drop")
        if status:
            return to_json(await self.status(exclude=hosts))
        if drop:
            await self.drop(exclude=hosts)
            return None
        return to_json(await self.rekey(exclude=hosts, **names))

    def _coordinate(
        self, exclude: Iterable[int | str], wanted: Mapping[str, str] = _NOTHING
    ) -> Coordinator:
        cluster = self._participant.keys.cluster
        if self._streams is None:
            raise RekeyError(
                "the hosts of this cluster have no channel for requests to each other: set"
                " service_channel in the cluster file and restart them"
            )
        if isinstance(exclude, str):
            raise InvalidArgumentError(
                "exclude is not valid: give a list of ids and names of hosts"
            )
        excluded = [cluster.get_host(host).host_id for host in exclude]
        return Coordinator(
            self._handle.host_id,
            self._participant,
            partial(self._ask, wanted=wanted),
            cluster.hosts,
            excluded,
            wanted,
            self._patience,
        )

    # Asking other hosts.

    async def _ask(
        self, host_id: int, question: RekeyQuestion, wanted: Mapping[str, str] = _NOTHING
    ) -> RekeyAnswer | NoAnswer:
        """Send a request until the host answers, for up to ``patience`` seconds."""
        if host_id == self._handle.host_id:
            return await self._participant.answer(host_id, question)
        assert self._streams is not None
        data = encode(question)
        why = ""
        with trio.move_on_after(self._patience):
            while True:
                try:
                    return decode_answer(await self._streams.request(host_id, data))
                except RefusedError as error:
                    # The host is just starting, or does not run serve_rekeying.
                    why = str(error)
                except (trio.BrokenResourceError, BadMessageError, KnetError) as error:
                    why = str(error)
                await trio.sleep(_AGAIN)
        return self._no_answer(host_id, why, wanted)

    def _no_answer(self, host_id: int, why: str, wanted: Mapping[str, str]) -> NoAnswer:
        host = self._handle.hosts.get(host_id)
        if host is None:
            return NoAnswer(HostOutcome.AWAY, "the handle does not have this host")
        if not host.status.reachable:
            return NoAnswer(HostOutcome.AWAY, "it cannot be reached")
        keys = self._participant.keys
        what = "change its key by hand"
        if is_aead(find_names(keys, keys.change, wanted)[1].model):
            what = "it cannot use model aead, and would be cut off"
        return NoAnswer(
            HostOutcome.BY_HAND,
            f"it is reachable, but does not answer on channel {keys.cluster.service_channel}: if it"
            f" runs libknet, {what}" + (f" ({why})" if why else ""),
        )

    # Answering other hosts.

    async def serve(self, requests: RequestReceiver, nursery: trio.Nursery) -> None:
        """Answer requests until cancelled. For internal use."""
        at_once = trio.Semaphore(AT_ONCE)
        async for request in requests:
            await at_once.acquire()
            nursery.start_soon(self._answer, request, at_once)

    async def _answer(self, request: HostRequest, at_once: trio.Semaphore) -> None:
        try:
            async with request:
                try:
                    question = decode_question(request.data)
                except BadMessageError as error:
                    await request.refuse(str(error))
                    return
                answer = await self._participant.answer(request.source, question)
                await request.answer(encode(answer))
        except trio.BrokenResourceError:
            # The host that asked is gone; the request has been carried out.
            await trio.lowlevel.checkpoint()
        finally:
            at_once.release()


@opens("serve_rekeying(handle) as rekeying")
async def serve_rekeying(
    handle: Handle, *, patience: float = DEFAULT_PATIENCE
) -> AsyncGenerator[Rekeying]:
    """Take part in changes of the cluster's key while the block runs.

    ::

        async with (
            open_cluster("lab.toml") as handle,
            serve_rekeying(handle) as rekeying,
            serve_control(handle, path, rekey=rekeying.answer_control),
        ):
            ...

    The hosts send requests to each other over the ``service_channel`` of the cluster file, which
    must not be used for anything else. Without one, this host takes part in no change, and
    ``rekey`` raises RekeyError. If this host is killed during a change, ``open_cluster`` loads both
    keys again.

    The block owns a nursery, so errors are raised from it in exception groups.

    Args:
        handle: A handle that ``open_cluster`` opened.
        patience: Seconds in which a host has to answer, 0.1 to 86400.

    Yields:
        The object that changes the key.

    Raises:
        InvalidArgumentError: ``open_cluster`` did not open the handle, or ``patience`` is out of
            range.
        BusyError: The channel is already open.
    """
    async with serve_with(handle, patience, _make_files, _run) as rekeying:
        yield rekeying


@asynccontextmanager
async def serve_with(
    handle: Handle, patience: float, make_files: Any, run: Any
) -> AsyncGenerator[Rekeying]:
    """Do the same as ``serve_rekeying`` with other files. For internal use."""
    opened = get_opened(handle)
    participant = Participant(HostKeys(handle, opened, make_files, run))
    channel = opened.cluster.service_channel
    reporting = reporting_key_change(handle, participant.report_change)
    if channel is None:
        await trio.lowlevel.checkpoint()
        with reporting:
            yield construct(Rekeying, handle, participant, None, patience)
        return
    async with (
        open_streams(handle, channel=channel, patience=patience, max_size=MAX_REQUEST) as streams,
        streams.requests() as requests,
        trio.open_nursery() as nursery,
    ):
        rekeying = construct(Rekeying, handle, participant, streams, patience)
        nursery.start_soon(partial(rekeying.serve, requests, nursery))
        with reporting:
            yield rekeying
        nursery.cancel_scope.cancel()


def _check_text(name: str, value: object) -> str:
    """Return ``value`` if it is text."""
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{name} is not valid: give text")
    return value


def _get_flag(parameters: Mapping[str, object], name: str) -> bool:
    """Return a parameter that is true or false, and false if it is left out."""
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise InvalidArgumentError(f"{name} is not valid: give true or false")
    return value


def _make_files(cluster: Cluster) -> KeyFiles:
    assert cluster.key_file is not None
    return KeyChangeFiles(cluster.key_file, secret=not cluster.is_corosync)


_run: Final = trio.to_thread.run_sync
