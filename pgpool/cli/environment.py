"""pgpool_environment TARGET [-b BASE] [COMMAND ...]: write pgpool.conf from PGPOOL_PARAMS_*, then become COMMAND."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ..config import environment
from ..errors import ConfigFaults
from ..system import process

USAGE = """\
Usage: pgpool_environment TARGET [-b BASE] [COMMAND [ARGUMENT ...]]

Writes the file TARGET (mode 0600): the text of BASE, if given, then a line for each environment variable PGPOOL_PARAMS_NAME,
or PGPOOL_PARAMS_NAME_FILE, which names a file that holds the value. Then becomes COMMAND, without those variables.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code, or does not return: then this process is COMMAND."""
    rest = list(sys.argv[1:] if argv is None else argv)
    if not rest or rest[0].startswith("-"):
        sys.stderr.write(USAGE)
        return 0 if rest[:1] in (["-h"], ["--help"]) else 1
    target, base = rest.pop(0), ""
    if rest[:1] == ["-b"]:
        if len(rest) < 2:
            sys.stderr.write(USAGE)
            return 1
        base = rest[1]
        del rest[:2]
    try:
        text = Path(base).read_text(errors="surrogateescape") if base else ""
        made = environment.lines(os.environ, lambda path: Path(path).read_text())
        write(target, text + ("\n" if text and not text.endswith("\n") else "") + "".join(made))
        if rest:
            process.replace(rest, environment.without(os.environ))
    except ConfigFaults as err:
        for fault in err.faults:
            sys.stderr.write(f"FATAL:  {fault.file}: {fault.message}\n")
        return 3
    except OSError as err:
        sys.stderr.write(f'FATAL:  "{err.filename}": {err.strerror}\n')
        return 3
    return 0


def write(target: str, text: str) -> None:
    """Replace the file in one step; only its owner may read it."""
    new = f"{target}.new"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "w", errors="surrogateescape") as file:
        os.fchmod(fd, 0o600)
        file.write(text)
    os.replace(new, target)


if __name__ == "__main__":
    sys.exit(main())
