"""Network namespaces, and pairs of them joined by veth devices: a network that may be broken.

Everything here is synchronous. A command takes milliseconds and has a time limit. Namespaces are
removed by name, also those that were made only in part.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from itertools import count
from typing import ClassVar, Final

# Seconds.
COMMAND_LIMIT: Final = 20.0
_TOOLS: Final = {"ip": "iproute2", "iptables": "iptables", "ip6tables": "iptables"}
_numbers = count()


class NamespaceError(RuntimeError):
    """A command for a namespace failed. The message has the command and its output."""


def namespaces_missing() -> str | None:
    """Return None if namespaces can be made, else the reason and what to do."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    lacking = {package for tool, package in _TOOLS.items() if shutil.which(tool) is None}
    if lacking:
        return f"network namespaces need: apt-get install {' '.join(sorted(lacking))}"
    probe = Namespaces("probe")
    try:
        probe.make()
        probe.remove()
    except NamespaceError as error:
        return f"network namespaces are refused here ({error}): allow CAP_SYS_ADMIN"
    return None


def run_command(*command: str, text: str | None = None) -> str:
    """Run a command to its end and return its output.

    Args:
        command: The program and its arguments.
        text: The text on its standard input, None for none.

    Raises:
        NamespaceError: The command failed, or did not end in time.
    """
    try:
        # In a session of its own: Ctrl-C must not end the commands that remove the network.
        done = subprocess.run(
            command,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        raise NamespaceError(f"{' '.join(command)}: not done in {COMMAND_LIMIT:g} s") from error
    if done.returncode:
        output = done.stderr.strip() or done.stdout.strip()
        raise NamespaceError(f"{' '.join(command)}: {output}")
    return done.stdout


def within(namespace: str, *command: str) -> list[str]:
    """Return the command that runs ``command`` in a namespace, in the same process."""
    return ["ip", "netns", "exec", namespace, *command]


class Namespaces:
    """Network namespaces with unique names, not joined to each other.

    Attributes:
        names: The names in ``ip netns``. The methods take the index of a name, the side.
    """

    def __init__(self, *suffixes: str) -> None:
        """Choose the names; ``make`` makes the namespaces.

        Args:
            suffixes: The ends of the names.
        """
        prefix = f"knet-{os.getpid()}-{next(_numbers)}"
        self.names: Final = tuple(f"{prefix}-{suffix}" for suffix in suffixes)

    def make(self) -> None:
        """Make the namespaces, with loopback devices that are up."""
        for name in self.names:
            run_command("ip", "netns", "add", name)
        for side in range(len(self.names)):
            self.ip(side, "link", "set", "lo", "up")

    def remove(self) -> None:
        """Delete the namespaces that exist, with their devices."""
        for name in self.names:
            if os.path.exists(f"/run/netns/{name}"):
                run_command("ip", "netns", "delete", name)

    def within(self, side: int, *command: str) -> list[str]:
        """Return the command that runs ``command`` in the namespace of that side."""
        return within(self.names[side], *command)

    def run(self, side: int, *command: str) -> str:
        """Run a command in the namespace of that side and return its output.

        Raises:
            NamespaceError: The command failed, or did not end in time.
        """
        return run_command(*self.within(side, *command))

    def ip(self, side: int, *arguments: str) -> str:
        """Run ``ip`` for the namespace of that side and return its output."""
        return run_command("ip", "-netns", self.names[side], *arguments)

    def tc(self, side: int, *arguments: str, text: str | None = None) -> str:
        """Run ``tc`` for the namespace of that side and return its output."""
        return run_command("tc", "-netns", self.names[side], *arguments, text=text)

    def add_rule(self, side: int, *rule: str, tool: str = "iptables") -> None:
        """Append a rule to the firewall: a chain, then the rest of the rule."""
        self.run(side, tool, "-w", "5", "-A", *rule)

    def delete_rule(self, side: int, *rule: str, tool: str = "iptables") -> None:
        """Delete a rule that was appended."""
        self.run(side, tool, "-w", "5", "-D", *rule)


class VethPair(Namespaces):
    """Namespaces 0 and 1, joined by veth pairs; pair i is ``veth{i}`` on both sides.

    A subclass may join them in another way, with more namespaces between the first two.

    Attributes:
        links: The number of pairs.
    """

    DEVICE: ClassVar[str] = "veth"
    SUFFIXES: ClassVar[tuple[str, ...]] = ("a", "b")

    def __init__(self, links: int) -> None:
        super().__init__(*self.SUFFIXES)
        self.links: Final = links

    @staticmethod
    def v4(side: int, i: int) -> str:
        """Return the IPv4 address of a side on pair i."""
        return f"10.77.{i}.{side + 1}"

    @classmethod
    def device(cls, i: int) -> str:
        """Return the name of the devices of pair i, on both sides."""
        return f"{cls.DEVICE}{i}"

    def build(self, mtu: int) -> None:
        """Make the namespaces and the devices that join them."""
        self.make()
        for i in range(self.links):
            self._join(i)
            for side in (0, 1):
                self._dress(side, i, mtu)

    def _join(self, i: int) -> None:
        """Make the devices of pair i."""
        end = ("type", "veth", "peer", "name", self.device(i), "netns", self.names[1])
        self.ip(0, "link", "add", self.device(i), *end)

    def _dress(self, side: int, i: int, mtu: int) -> None:
        """Set the address and the MTU of a new device, and set it up."""
        # No generated link-local address: it would send packets of its own.
        self.ip(side, "link", "set", self.device(i), "addrgenmode", "none")
        self.ip(side, "address", "add", f"{self.v4(side, i)}/24", "dev", self.device(i))
        self.set_mtu(i, mtu, side=side)
        self.set_link(i, up=True, side=side)

    def set_link(self, i: int, *, up: bool, side: int = 0) -> None:
        """Set one side's device up or down; the other side's carrier follows."""
        self.ip(side, "link", "set", self.device(i), "up" if up else "down")

    def set_mtu(self, i: int, mtu: int, *, side: int | None = None) -> None:
        """Set the MTU of pair i, on one side, or with None on both."""
        for each in (0, 1) if side is None else (side,):
            self.ip(each, "link", "set", self.device(i), "mtu", str(mtu))

    def losing(self, i: int) -> tuple[str, ...]:
        """Return the rule that drops packets that arrive over pair i.

        The rule is at the receiver: one at the sender would make its send fail, as no network does.
        """
        return ("INPUT", "-i", self.device(i), "-j", "DROP")
