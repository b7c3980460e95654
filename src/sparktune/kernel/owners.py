"""Who configures an interface: netplan, NetworkManager, systemd-networkd, or nobody. It edits no file.

A netplan definition comes first, as what it renders is made anew; then what the running programs say they
manage; then what their files would match. Netplan's files are root's (0600): for others the names of what it
rendered tell of it.
"""

from __future__ import annotations

import shlex
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING

from sparktune.fabric.model import Owner, OwnerKind
from sparktune.kernel.netplan import MOST_DIGITS, read_netplan, unreadable

if TYPE_CHECKING:
    from sparktune.kernel.netplan import Definition
    from sparktune.kernel.root import Root

_CONNECTIONS = (
    "/etc/NetworkManager/system-connections",
    "/run/NetworkManager/system-connections",
    "/usr/lib/NetworkManager/system-connections",
)
_NETWORKS = (
    "/etc/systemd/network",
    "/run/systemd/network",
    "/usr/local/lib/systemd/network",
    "/usr/lib/systemd/network",
)
_RENDERED = (
    (f"{_CONNECTIONS[1]}/netplan-", ".nmconnection"),
    (f"{_NETWORKS[1]}/10-netplan-", ".network"),
)
"""What netplan names the files it makes, around the id of a definition: netplan generate(8)."""
_OF_MANAGER = "NM-"
"""How netplan's ids begin of connections that nmcli made; NetworkManager writes their files itself."""
NOBODY = Owner(kind=OwnerKind.NOBODY)

Sections = dict[str, dict[str, str]]


class Owners:
    """The owners of this machine's interfaces; each kind of file is read once, when it is asked for."""

    def __init__(self, root: Root) -> None:
        """Read nothing yet."""
        self._root = root

    def find(self, netdev: str, mac: str = "", driver: str = "") -> Owner:
        """The owner of an interface; nobody if none is found, or the interface has no name."""
        if not netdev:
            return NOBODY
        found = (
            self._netplan(netdev, mac, driver)
            or self._manager(netdev, mac)
            or self._networkd(netdev, mac, driver)
        )
        if found is NOBODY and self._hidden:
            files = ", ".join(self._hidden)
            do = f"look as root who configures it: only root may read {files}"
            return Owner(kind=OwnerKind.UNKNOWN, change=do)
        return found

    @cached_property
    def _hidden(self) -> tuple[str, ...]:
        """Files, any of which may be about any interface, that cannot be read."""
        return unreadable(self._root)

    def _netplan(self, netdev: str, mac: str, driver: str) -> Owner | None:
        fitting = [
            one
            for one in self._definitions
            if one.fits(netdev, mac, driver) and not one.name.startswith(_OF_MANAGER)
        ]
        if not fitting:
            return None
        definition = fitting[-1]
        key = f"network.ethernets.{definition.name}"
        change = f"set `mtu: MTU` below {key} in {definition.file}, then run: sudo netplan apply"
        return Owner(kind=OwnerKind.NETPLAN, file=definition.file, key=key, mtu=definition.mtu, change=change)

    @cached_property
    def _definitions(self) -> tuple[Definition, ...]:
        return read_netplan(self._root)

    def _manager(self, netdev: str, mac: str) -> Owner | None:
        """NetworkManager: the device is managed and has a connection, or a keyfile is about it."""
        state = parse_sections(self._read(f"/run/NetworkManager/devices/{self._index(netdev)}"))
        active = state.get("device", {}).get("connection-uuid", "")
        found = [
            (path, sections)
            for path, sections in self._keyfiles
            if (sections["connection"].get("uuid") == active if active else _is_about(sections, netdev, mac))
        ]
        if not found:
            path = f"{_RENDERED[0][0]}{netdev}{_RENDERED[0][1]}"
            guessed = self._rendered(path) if self._root.exists(path) else None
            return guessed or (_unnamed(netdev) if active else None)
        path, sections = found[0]
        name = sections["connection"].get("id", "")
        ethernet = {**sections.get("802-3-ethernet", {}), **sections.get("ethernet", {})}
        if rendered := self._rendered(path, ethernet.get("mtu", "")):
            return rendered
        quoted = shlex.quote(name)
        return Owner(
            kind=OwnerKind.NETWORK_MANAGER,
            file=path,
            key=name,
            mtu=_whole(ethernet.get("mtu", "")) or None,  # 0 is automatic
            change=(
                f"run: sudo nmcli connection modify {quoted} ethernet.mtu MTU"
                f" && sudo nmcli connection up {quoted}"
            ),
        )

    @cached_property
    def _keyfiles(self) -> tuple[tuple[str, Sections], ...]:
        paths = [f"{folder}/{name}" for folder in _CONNECTIONS for name in self._root.names(folder)]
        read = [(path, parse_sections(self._read(path))) for path in paths]
        return tuple((path, sections) for path, sections in read if "connection" in sections)

    def _rendered(self, path: str, mtu: str = "") -> Owner | None:
        """Netplan, of whose definition only what it rendered can be read; None for another's file."""
        ids = [
            path.removeprefix(before).removesuffix(after)
            for before, after in _RENDERED
            if path.startswith(before) and path.endswith(after)
        ]
        if not ids or ids[0].startswith(_OF_MANAGER):
            return None
        key, hidden = f"network.ethernets.{ids[0]}", unreadable(self._root)
        where = hidden[0] if len(hidden) == 1 else "the file in /etc/netplan that has it"
        why = f" (only root may read {', '.join(hidden)})" if hidden else ""
        return Owner(
            kind=OwnerKind.NETPLAN,
            file=hidden[0] if len(hidden) == 1 else "",  # no other can have it
            key=key,
            mtu=_whole(mtu) or None,
            change=f"set `mtu: MTU` below {key} in {where}{why}, then run: sudo netplan apply",
        )

    def _networkd(self, netdev: str, mac: str, driver: str) -> Owner:
        """systemd-networkd: the file it says it uses, else the first that matches where it is in use."""
        links = "/run/systemd/netif/links"
        state = parse_sections(f"[link]\n{self._read(f'{links}/{self._index(netdev)}')}").get("link", {})
        if state.get("ADMIN_STATE") == "unmanaged":
            return self._link(netdev, mac, driver)
        path = state.get("NETWORK_FILE", "")
        if not path and not state:
            path = next((one for one in self._networks if self._matches(one, netdev, mac, driver)), "")
        if not path:
            return self._link(netdev, mac, driver)
        mtu = parse_sections(self._read(path)).get("Link", {}).get("MTUBytes", "")
        if rendered := self._rendered(path, mtu):
            return rendered
        drop_in = f"/etc/systemd/network/{path.rpartition('/')[2]}.d/mtu.conf"
        return Owner(
            kind=OwnerKind.NETWORKD,
            file=path,
            key="[Link] MTUBytes",
            mtu=_whole(mtu),
            change=(
                f"write `[Link]` and below it `MTUBytes=MTU` to {shlex.quote(drop_in)}, "
                f"then run: sudo networkctl reload && sudo networkctl reconfigure {shlex.quote(netdev)}"
            ),
        )

    def _link(self, netdev: str, mac: str, driver: str) -> Owner:
        """The .link files of systemd: udev applies them when a device appears. Source: systemd.link(5)."""
        path = next((one for one in self._links if self._matches(one, netdev, mac, driver)), "")
        mtu = _whole(parse_sections(self._read(path)).get("Link", {}).get("MTUBytes", "")) if path else None
        if mtu is None:  # the first that matches is the only one that counts, and it sets no MTU
            return NOBODY
        place = shlex.quote(f"/sys/class/net/{netdev}")
        return Owner(
            kind=OwnerKind.NETWORKD,
            file=path,
            key="[Link] MTUBytes",
            mtu=mtu,
            change=(
                f"set `MTUBytes=MTU` below `[Link]` in {path}, then run: "
                f"sudo udevadm control --reload && sudo udevadm trigger --action=add {place}"
            ),
        )

    @cached_property
    def _networks(self) -> tuple[str, ...]:
        return self._ordered(".network")

    @cached_property
    def _links(self) -> tuple[str, ...]:
        return self._ordered(".link")

    def _ordered(self, ending: str) -> tuple[str, ...]:
        """Files of a kind of systemd, by name; one in /etc hides those of its name elsewhere."""
        names = sorted({n for folder in _NETWORKS for n in self._root.names(folder) if n.endswith(ending)})
        return tuple(
            next(f"{folder}/{name}" for folder in _NETWORKS if self._root.exists(f"{folder}/{name}"))
            for name in names
        )

    def _matches(self, path: str, netdev: str, mac: str, driver: str) -> bool:
        wanted = parse_sections(self._read(path)).get("Match", {})
        mac = mac.lower()
        actual = {
            "Name": netdev, "OriginalName": netdev, "Driver": driver,
            "MACAddress": mac, "PermanentMACAddress": mac,
        }  # fmt: skip
        return bool(wanted) and all(
            key in actual and any(fnmatchcase(actual[key], glob) for glob in _words(key, value))
            for key, value in wanted.items()
        )

    def _index(self, netdev: str) -> str:
        return self._root.read(f"/sys/class/net/{netdev}/ifindex") or "0"

    def _read(self, path: str) -> str:
        return self._root.read(path) or ""


def _unnamed(netdev: str) -> Owner:
    """NetworkManager has a connection for it of which no file can be read."""
    name = f'"$(nmcli -g GENERAL.CONNECTION device show {shlex.quote(netdev)})"'
    return Owner(
        kind=OwnerKind.NETWORK_MANAGER,
        change=(
            f"run: sudo nmcli connection modify {name} ethernet.mtu MTU && sudo nmcli connection up {name}"
        ),
    )


def _is_about(sections: Sections, netdev: str, mac: str) -> bool:
    """Whether a connection names this interface, by name or by hardware address."""
    connection = sections["connection"]
    if connection.get("type", "ethernet") not in ("ethernet", "802-3-ethernet"):
        return False
    ethernet = {**sections.get("802-3-ethernet", {}), **sections.get("ethernet", {})}
    by_mac = ethernet.get("mac-address", "").lower()
    return connection.get("interface-name") == netdev or bool(by_mac and by_mac == mac.lower())


def parse_sections(text: str) -> Sections:
    """An INI-like file: sections of keys; of a key that is there twice, the last. Never raises."""
    found: Sections = {}
    section: dict[str, str] = {}
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith(("#", ";")):
            continue
        if line.startswith("[") and line.endswith("]"):
            section = found.setdefault(line[1:-1], {})
        elif "=" in line:
            key, _, value = line.partition("=")
            section[key.strip()] = value.strip()
    return found


def _words(key: str, value: str) -> list[str]:
    return value.lower().split() if key.endswith("MACAddress") else value.split()


def _whole(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) <= MOST_DIGITS else None
