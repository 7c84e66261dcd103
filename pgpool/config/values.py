"""Text <-> value of one parameter, with the error texts of commands.md section 4."""

from __future__ import annotations

import math
import re

from . import param as p
from .forms import join_list, split_list
from .reader import quote

Value = bool | int | float | str | tuple[str, ...]

MEMORY_UNITS = {"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
TIME_UNITS = {"us": 1, "ms": 1000, "s": 1_000_000, "min": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}

SECRET = "*****"

_NUMBER = re.compile(r"([+-]?(?:0[xX][0-9a-fA-F]+|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?))"
                     r"[ \t]*([A-Za-z]*)", re.ASCII)
_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_MAX_NUMBER = 400
"""Longer numbers are nonsense and slow to convert."""


class BadValue(Exception):
    """A text is no value of the parameter; ``hint`` helps to find one."""

    def __init__(self, message: str, hint: str = ""):
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


def parse(param: p.Param, text: str, name: str = "") -> Value:
    """``text`` as a value of ``param``. ``name`` (with index) is used in messages. Raises BadValue."""
    name = name or param.name
    if param.type == p.BOOL:
        return _parse_bool(name, text)
    if param.type in (p.INT, p.INT64):
        return _parse_int(param, name, text)
    if param.type == p.DOUBLE:
        return _parse_double(param, name, text)
    if param.type == p.ENUM:
        return _parse_enum(param, name, text)
    if "\0" in text or "\n" in text:
        raise BadValue(f'invalid value for parameter "{name}": a line end or NUL byte')
    if param.type == p.LIST:
        return split_list(text, param.separator)
    if param.form is None:
        return text
    try:
        return param.form(text) if text else text
    except ValueError as error:
        raise BadValue(f'invalid value for parameter "{name}": {error}') from None


def _invalid(name: str, text: str, hint: str = "") -> BadValue:
    shown = text if len(text) <= 200 else text[:200] + "..."
    return BadValue(f'invalid value for parameter "{name}": "{shown}"', hint)


def _parse_bool(name: str, text: str) -> bool:
    word = text.strip().lower()
    meanings = {value for spelling, value in _BOOLEANS.items() if word and spelling.startswith(word)}
    if len(meanings) != 1:
        raise _invalid(name, text, "Available values: on, off.")
    return meanings.pop()


def _parse_enum(param: p.Param, name: str, text: str) -> str:
    word = text.strip().lower()
    for choice in (*param.choices, *param.aliases):
        if choice.lower() == word:
            return param.aliases.get(choice, choice)
    raise _invalid(name, text, f"Available values: {', '.join(param.choices)}.")


def _number(param: p.Param, name: str, text: str) -> tuple[int | float, str]:
    """The number and its unit. A leading 0 means octal, as in C."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None or len(match[1]) > _MAX_NUMBER:
        raise _invalid(name, text)
    digits = match[1]
    bare = digits.lstrip("+-")
    try:
        if bare[:2] in ("0x", "0X"):
            return int(digits, 16), match[2]
        if bare.isdigit():
            return int(digits, 8 if len(bare) > 1 and bare[0] == "0" else 10), match[2]
    except ValueError:
        raise _invalid(name, text) from None
    number = float(digits)
    if not math.isfinite(number):
        raise _invalid(name, text)
    return number, match[2]


def _parse_int(param: p.Param, name: str, text: str) -> int:
    number, unit = _number(param, name, text)
    if unit:
        number = _convert(param, name, text, number, unit)
    value = round(number)
    _check_range(param, name, value)
    return value


def _convert(param: p.Param, name: str, text: str, number: int | float, unit: str) -> int | float:
    """``number`` in ``unit`` -> in the parameter's own unit."""
    if not param.unit:
        raise _invalid(name, text)
    units = MEMORY_UNITS if param.unit in MEMORY_UNITS else TIME_UNITS
    if unit not in units:
        *most, last = (f'"{known}"' for known in units)
        raise _invalid(name, text, f"Valid units for this parameter are {', '.join(most)}, and {last}.")
    if isinstance(number, int):
        whole, rest = divmod(number * units[unit], units[param.unit])
        return whole if not rest else number * units[unit] / units[param.unit]
    product = number * units[unit] / units[param.unit]
    if not math.isfinite(product):
        raise _invalid(name, text)
    return product


def _parse_double(param: p.Param, name: str, text: str) -> float:
    number, unit = _number(param, name, text)
    if unit:
        raise _invalid(name, text)
    try:
        value = float(number)
    except OverflowError:
        raise _invalid(name, text) from None
    _check_range(param, name, value)
    return value


def _check_range(param: p.Param, name: str, value: int | float) -> None:
    """The default is allowed everywhere: 0 stands for "not set" where ports begin at 1024."""
    if param.max is not None and not param.min <= value <= param.max and value != param.default:
        spell = "{:f}".format if param.type == p.DOUBLE else str
        raise BadValue(f'{spell(value)} is outside the valid range for parameter "{name}" '
                       f"({spell(param.min)} .. {spell(param.max)})")


def human(param: p.Param, value: Value) -> str:
    """The form PGPOOL SHOW prints. An indexed number has no unit and a weight no fraction, as in the incumbent."""
    if param.secret:
        return SECRET
    if param.type == p.BOOL:
        return "on" if value else "off"
    if param.type == p.DOUBLE and param.indexed:
        return str(int(value))
    if param.type == p.DOUBLE:
        return f"{value:g}"
    if param.unit and not param.indexed:
        return with_unit(param.unit, value)
    return raw(param, value)


def with_unit(unit: str, value: int) -> str:
    """300 in s -> ``5min``: the largest unit that keeps the number whole; 0 and negative numbers stay bare."""
    if value <= 0:
        return str(value)
    units = MEMORY_UNITS if unit in MEMORY_UNITS else TIME_UNITS
    amount = value * units[unit]
    name = max((known for known in units if amount % units[known] == 0), key=units.__getitem__)
    return f"{amount // units[name]}{name}"


def raw(param: p.Param, value: Value) -> str:
    """The form SHOW pool_status prints: numbers without unit, booleans 0/1, enums as their code."""
    if param.type == p.BOOL:
        return str(int(value))
    if param.octal == "show":
        return f"{value:04o}"
    if param.type == p.LIST:
        return join_list(value, param.separator)
    return str(value)


def code(param: p.Param, value: Value) -> str:
    """As raw, but enums by number; syslog_facility keeps its name, as in the incumbent."""
    if param.type == p.ENUM and param.name != "syslog_facility":
        return str(param.choices[value])
    return raw(param, value)


def file_text(param: p.Param, value: Value) -> str:
    """The form for pgpool.conf: reads back as the same value."""
    if param.type == p.BOOL:
        return "on" if value else "off"
    if param.type in (p.INT, p.INT64):
        if param.octal:
            return f"0{value:o}"
        return with_unit(param.unit, value) if param.unit else str(value)
    if param.type == p.DOUBLE:
        return repr(value).removesuffix(".0")
    if param.type == p.LIST:
        return quote(join_list(value, param.separator))
    return quote(value)
