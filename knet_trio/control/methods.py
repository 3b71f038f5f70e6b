"""The work done for each method of the control protocol."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final, TypeAlias

import attrs
import trio

from knet_trio import Handle, Host, InvalidArgumentError, KnetError, Link, UnknownLinkError
from knet_trio.config import check_integer, check_seconds
from knet_trio.control.codec import Json, dump, to_json
from knet_trio.control.errors import ErrorCode
from knet_trio.control.protocol import (
    ControlRequest,
    LinkParameters,
    NoParameters,
    ObserveParameters,
    PingParameters,
    RequestRefusedError,
    SetParameters,
    TargetParameters,
    check_method,
    read_parameters,
)
from knet_trio.control.records import (
    Explanation,
    HandleMetrics,
    HandleReport,
    HostPing,
    PathReport,
)
from knet_trio.control.reports import (
    measure_handle,
    measure_host,
    observe_loop,
    report_handle,
    report_history,
    report_host,
    report_pings,
    visit_hosts,
)
from knet_trio.control.settings import SETTINGS

Action: TypeAlias = Callable[[dict[str, Any]], Awaitable[Json]]
"""The program's function for ``rekey`` or ``reload``: takes the parameters of the request unchanged
and returns the result."""


_MOST_PINGS: Final = 1000
"""The most pings that one request may send over each link."""

EXPECTED: Final = (KnetError, OSError, ValueError)
"""The errors that are reported to the client. Any other is a bug."""


@attrs.define(eq=False)
class _Run:
    """A running action.

    Attributes:
        over: Set when the action has ended.
        result: The result of the action.
        error: The error that the action raised, None if it succeeded.
    """

    _action: Action
    _parameters: dict[str, Any]
    over: trio.Event = attrs.field(factory=trio.Event)
    result: Json = None
    error: KnetError | OSError | ValueError | None = None

    async def run(self) -> None:
        """Run the action and store its result or error. Only bugs raise."""
        try:
            self.result = await self._action(self._parameters)
        except EXPECTED as error:
            self.error = error
        self.over.set()


class ControlMethods:
    """The methods for a handle, shared by all clients.

    Args:
        handle: The handle.
        nursery: Runs the actions, which go on if the client that requested them disconnects.
        actions: The program's own methods by name, None for those it does not offer.
    """

    def __init__(
        self, handle: Handle, nursery: trio.Nursery, actions: dict[str, Action | None]
    ) -> None:
        self._handle = handle
        self._nursery = nursery
        self._actions = actions
        self._methods: dict[str, Callable[[Any], Awaitable[object]]] = {
            "statistics": self._statistics,
            "explain": self._explain,
            "history": self._history,
            "set": self._set,
            "ping": self._ping,
            "diagnose": self._diagnose,
            "discover_mtu": self._discover_mtu,
            "observe": self._observe,
        }

    @property
    def names(self) -> list[str]:
        """The names of the methods that are offered, without ``events``."""
        offered = [name for name, action in self._actions.items() if action is not None]
        return ["status", "metrics", *self._methods, *offered]

    async def call(self, request: ControlRequest) -> object:
        """Return the result of a request.

        Args:
            request: The request.

        Returns:
            A record, or for ``status`` and ``metrics`` an async generator of pieces of JSON, since
            there may be thousands of links.

        Raises:
            RequestRefusedError: The request is not valid, or cannot be carried out.
        """
        await trio.lowlevel.checkpoint()
        method = check_method(request)
        try:
            if method.parameters is None:
                return await self._act(request)
            parameters = read_parameters(method, request)
            if isinstance(parameters, NoParameters):
                if request.method == "metrics":
                    return self._in_pieces(measure_handle(self._handle), measure_host)
                return self._in_pieces(report_handle(self._handle), report_host)
            return await self._methods[request.method](parameters)
        except EXPECTED as error:
            raise RequestRefusedError(ErrorCode.REFUSED, str(error)) from error
        except trio.ClosedResourceError as error:
            why = str(error) or "the handle has ended"
            raise RequestRefusedError(ErrorCode.REFUSED, why) from error

    async def _act(self, request: ControlRequest) -> object:
        action = self._actions[request.method]
        if action is None:
            raise RequestRefusedError(
                ErrorCode.NOT_SERVED,
                f"this program does not offer {request.method}: its call of serve_control has no"
                f" {request.method}=",
            )
        run = _Run(action, request.parameters)
        self._nursery.start_soon(run.run, name=request.method)
        await run.over.wait()
        if run.error is not None:
            raise run.error
        return run.result

    async def _in_pieces(
        self, record: HandleReport | HandleMetrics, report: Callable[[Handle, Host], object]
    ) -> AsyncGenerator[str]:
        """Yield the JSON of a report host by host, so that other tasks can run meanwhile.

        Args:
            record: The report of the handle, without hosts.
            report: Returns the report of a host.
        """
        # The hosts are the last member, and the record has none yet.
        yield dump(to_json(record)).removesuffix("]}")
        separator = ""
        async with aclosing(visit_hosts(self._handle)) as hosts:
            async for host in hosts:
                yield separator + dump(to_json(report(self._handle, host)))
                separator = ","
        yield "]}"

    async def _statistics(self, parameters: TargetParameters) -> object:
        target = self._target(parameters.host, parameters.link)
        if isinstance(target, Handle):
            return target.statistics()
        if isinstance(target, Link):
            return target.status.stats
        raise InvalidArgumentError(
            f"host {target.host_id} has no counters of its own: give the id of one of its links too"
        )

    async def _explain(self, parameters: TargetParameters) -> object:
        return Explanation(text=self._target(parameters.host, parameters.link).explain())

    async def _history(self, parameters: LinkParameters) -> object:
        return report_history(_link(self._handle.get_host(parameters.host), parameters.link))

    async def _set(self, parameters: SetParameters) -> object:
        target = self._target(parameters.host, parameters.link)
        setting = SETTINGS.get(parameters.name)
        if setting is None or not isinstance(target, setting.of):
            kind = type(target).__name__.lower()
            known = [name for name, one in SETTINGS.items() if isinstance(target, one.of)]
            raise InvalidArgumentError(
                f"a {kind} has no setting {parameters.name[:80]!r}: its settings are"
                f" {', '.join(known)}"
            )
        return await setting.change(target, parameters.value)

    async def _ping(self, parameters: PingParameters) -> object:
        count = check_integer("count", parameters.count, 1, _MOST_PINGS)
        interval = check_seconds("interval", parameters.interval, 0.01, 3600.0)
        host = self._handle.get_host(parameters.host)
        links = dict(host.links)
        if parameters.link is not None:
            links = {parameters.link: _link(host, parameters.link)}
        trips: dict[int, list[float | None]] = {}

        async def ping(link: Link) -> None:
            began = trio.current_time()
            try:
                seconds = await link.ping()
                status = link.status if seconds is None else None
            except UnknownLinkError:
                # The link was removed in the meantime.
                return
            of_link = trips.setdefault(link.link_id, [])
            # A link that was down already has sent nothing; one that went down has lost a ping.
            if status is None or status.connected or status.since > began:
                of_link.append(seconds)

        due = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(count):
                if number:
                    due = max(due + interval, trio.current_time())
                    await trio.sleep_until(due)
                for link in links.values():
                    nursery.start_soon(ping, link)
        return HostPing(host_id=host.host_id, name=host.name, links=report_pings(host, trips))

    async def _diagnose(self, parameters: TargetParameters) -> object:
        target = self._target(parameters.host, parameters.link)
        if isinstance(target, Host):
            raise InvalidArgumentError(
                f"host {target.host_id} has no diagnosis of its own: give the id of one of its"
                " links too"
            )
        return target.diagnose()

    async def _discover_mtu(self, parameters: LinkParameters) -> object:
        link = _link(self._handle.get_host(parameters.host), parameters.link)
        return PathReport(mtu=await link.discover_mtu())

    async def _observe(self, parameters: ObserveParameters) -> object:
        return await observe_loop(check_seconds("seconds", parameters.seconds, 0.1, 60.0))

    def _target(self, host: int | str | None, link: int | None) -> Handle | Host | Link:
        if host is None:
            if link is not None:
                raise InvalidArgumentError("a link id needs a host: give the host too")
            return self._handle
        found = self._handle.get_host(host)
        return found if link is None else _link(found, link)


def _link(host: Host, link_id: int) -> Link:
    link = host.links.get(link_id)
    if link is None:
        there = ", ".join(map(str, sorted(host.links))) or "none"
        raise UnknownLinkError(
            f"host {host.host_id} has no link {link_id}; of those it has: {there}"
        )
    return link
