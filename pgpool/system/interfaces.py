"""The addresses of this machine's network interfaces (for samehost and samenet in pool_hba.conf)."""

from __future__ import annotations

import ctypes
import ipaddress

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
_AF_INET = 2
_AF_INET6 = 10


class _IfAddrs(ctypes.Structure):
    pass


_IfAddrs._fields_ = [
    ("next", ctypes.POINTER(_IfAddrs)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("addr", ctypes.c_void_p),
    ("netmask", ctypes.c_void_p),
]


def _address(pointer: int | None, family: int) -> bytes:
    """The address bytes of a struct sockaddr_in (offset 4) or sockaddr_in6 (offset 8); b'' when it is none."""
    if not pointer:
        return b""
    offset, size = (4, 4) if family == _AF_INET else (8, 16)
    return ctypes.string_at(pointer + offset, size)


def interfaces() -> list[Interface]:
    """Address and netmask of every interface that is up with an IP address; [] when the system will not say."""
    libc = ctypes.CDLL(None, use_errno=True)
    head = ctypes.POINTER(_IfAddrs)()
    if libc.getifaddrs(ctypes.byref(head)) != 0:
        return []
    found: list[Interface] = []
    try:
        node = head
        while node:
            item = node.contents
            family = ctypes.c_ushort.from_address(item.addr).value if item.addr else 0
            if family in (_AF_INET, _AF_INET6):
                address, mask = _address(item.addr, family), _address(item.netmask, family)
                prefix = bin(int.from_bytes(mask, "big")).count("1") if mask else len(address) * 8
                found.append(ipaddress.ip_interface((address, prefix)))
            node = item.next
    finally:
        libc.freeifaddrs(head)
    return found
