"""pg_md5 and pg_enc: hashes for pcp.conf, md5 and AES entries for pool_passwd (commands.md section 7)."""

from __future__ import annotations

import getopt
import getpass
import hashlib
import os
import pwd
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .. import version_text
from ..auth import aes
from ..config.settings import load
from ..errors import ConfigFaults, PgpoolError

MAX_PASSWORD = 128

MD5_USAGE = """\
Usage:

  {program} [OPTIONS]
  {program} <PASSWORD>

  --prompt, -p         Prompt password using standard input.
  --md5auth, -m        Produce md5 authentication password.
  --username, -u USER  When producing a md5 authentication password,
                       create the pool_passwd entry for USER.
  --config-file, -f CONFIG-FILE  Specify pgpool.conf.
  --input-file, -i INPUT-FILE  Specify file containing username and password pairs.
  --help, -h           This help menu.

Warning: At most 128 characters are allowed for input.
Warning: Plain password argument is deprecated for security concerns
         and kept for compatibility. Please prefer using password
         prompt or input file method.
"""
ENC_USAGE = """\
pgpool-II version {version},
  password encryption utility for Pgpool

Usage:
  {program} [OPTIONS] <PASSWORD>
  -k, --key-file=KEY_FILE
                       Set the path to the encryption key file.
                       Default: {key_file}
                       Can be overridden by the PGPOOLKEYFILE environment variable.
  -K, --enc-key=ENCRYPTION_KEY
                       Encryption key to be used for encrypting database passwords.
  -f, --config-file=CONFIG_FILE
                       Specifies the pgpool.conf file.
  -i, --input-file=INPUT-FILE
                       Specify file containing username and password pairs.
  -p, --prompt         Prompt for database password using standard input.
  -P, --prompt-for-key Prompt for encryption key using standard input.
  -m, --update-pass    Create encrypted password entry in the pool_passwd file.
  -u, --username       The username for the pool_password entry.
  -h, --help           Print this help.

"""


class Stop(PgpoolError):
    """The command ends with exit code 1; the message goes to stderr."""


@dataclass(frozen=True)
class Tool:
    """What differs between the two. ``line`` gives the text of one password for stdout, ``entry`` that of pool_passwd."""

    letters: str
    names: tuple[str, ...]
    usage: str


MD5 = Tool("hpmf:u:i:", ("help", "prompt", "md5auth", "config-file=", "username=", "input-file="), MD5_USAGE)
ENC = Tool(
    "hPpmk:K:f:u:i:",
    ("help", "prompt-for-key", "prompt", "update-pass", "key-file=", "enc-key=", "config-file=", "username=", "input-file="),
    ENC_USAGE,
)  # fmt: skip
_LONG = {
    "-h": "help", "-p": "prompt", "-P": "prompt-for-key", "-m": "update-pass", "--md5auth": "update-pass",
    "-f": "config-file", "-u": "username", "-i": "input-file", "-k": "key-file", "-K": "enc-key",
}  # fmt: skip


def _say(text: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(text)
    sys.stderr.flush()


def _read(tool: Tool, argv: Sequence[str]) -> tuple[dict[str, str], list[str]] | None:
    """(options by long name, words); None when help was asked for by a wrong option, which has been told."""
    try:
        found, words = getopt.gnu_getopt(list(argv), tool.letters, list(tool.names))
    except getopt.GetoptError as err:
        short = len(err.opt) == 1
        if "requires argument" in err.msg:
            word = f"option requires an argument -- '{err.opt}'" if short else f"option '--{err.opt}' requires an argument"
        else:
            word = f"invalid option -- '{err.opt}'" if short else f"unrecognized option '--{err.opt}'"
        _say(f"{sys.argv[0]}: {word}\n")
        return None
    return {_LONG.get(option, option.removeprefix("--")): value for option, value in found}, words


def _prompt(text: str) -> str:
    if not sys.stdin.isatty():
        raise Stop("stdin is not tty\n")
    return getpass.getpass(text)


def _pairs(path: str, complain: Callable[[int], None]) -> Iterator[tuple[int, str, str]]:
    """(line number, user, password) of each line ``user:password``; ``complain`` gets the numbers of the others."""
    print(f"trying to read username:password pairs from file {path}")
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().split("\n")
    except OSError as err:
        raise Stop(f'failed to open input_file "{path}" ({err.strerror})\n\n') from None
    if lines[-1] == "":
        lines.pop()
    for number, line in enumerate(lines, 1):
        user, colon, password = line.rstrip("\r").partition(":")
        if colon and user and password:
            yield number, user, password
        else:
            complain(number)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _checked(password: str) -> str:
    if len(_bytes(password)) > MAX_PASSWORD:
        raise Stop(f"Wrong password format: a password has at most {MAX_PASSWORD} bytes\n")
    return password


# -- pool_passwd ------------------------------------------------------------------------------------------------------


def _pool_passwd(config_file: str) -> str:
    """Where the pool_passwd of this pgpool.conf is. Raises Stop."""
    if not os.path.exists(config_file):
        _say(f'WARNING: could not open configuration file: "{config_file}"\n')
        raise Stop("Unable to get configuration. Exiting...\n\n")
    try:
        path = load(config_file).settings.path("pool_passwd")
    except ConfigFaults as err:
        raise Stop("".join(f"{fault}\n" for fault in err.faults)) from None
    if not path:
        raise Stop(f"pool_passwd is disabled in {config_file}\n")
    return path


def write_entries(path: str, entries: dict[str, str]) -> None:
    """Put ``user:text`` lines into the file, each in the place of the user's old line, in one step. Raises Stop."""
    left = dict(entries)
    try:
        lines, mode, owner = _old_lines(path)
        out = []
        for line in lines:
            user = line.partition(":")[0]
            out.append(f"{user}:{left.pop(user)}" if user in left and ":" in line and line[:1] != "#" else line)
        out += [f"{user}:{text}" for user, text in left.items()]
        new = f"{path}.new"
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write("".join(line + "\n" for line in out))
        os.chmod(new, mode)
        if owner is not None and os.geteuid() == 0:
            os.chown(new, *owner)
        os.replace(new, path)
    except OSError as err:
        raise Stop(f'could not write "{path}": {err.strerror}\n') from None


def _old_lines(path: str) -> tuple[list[str], int, tuple[int, int] | None]:
    """(lines, permissions, owner) of the present file; nothing and 0600 when there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            info = os.stat(file.fileno())
            lines = file.read().split("\n")
    except FileNotFoundError:
        return [], 0o600, None
    return lines[:-1] if lines[-1] == "" else lines, info.st_mode & 0o777, (info.st_uid, info.st_gid)


def _target(options: dict[str, str]) -> str:
    return _pool_passwd(options.get("config-file") or _default_config())


def _default_config() -> str:
    directory = "/etc/pgpool2" if os.path.isdir("/etc/pgpool2") else os.path.join(sys.prefix, "etc")
    return os.path.join(os.environ.get("PGPOOL_SYSCONFDIR") or directory, "pgpool.conf")


def _user(options: dict[str, str]) -> str:
    return options.get("username") or pwd.getpwuid(os.getuid()).pw_name


def _check_user(user: str) -> str:
    if ":" in user or "\n" in user:
        raise Stop("a user name cannot have a colon in pool_passwd\n")
    return user


# -- pg_md5 -----------------------------------------------------------------------------------------------------------


def md5_hex(password: str) -> str:
    """The line of pcp.conf."""
    return hashlib.md5(_bytes(password), usedforsecurity=False).hexdigest()


def md5_entry(user: str, password: str) -> str:
    """The pool_passwd text."""
    return "md5" + md5_hex(password + user)


def pg_md5(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return _guarded(_pg_md5, sys.argv[1:] if argv is None else argv)


def _pg_md5(argv: Sequence[str]) -> int:
    read = _read(MD5, argv)
    usage = MD5_USAGE.format(program=sys.argv[0])
    if read is None or "help" in read[0]:
        print(usage, end="")
        return 0
    options, words = read
    update = "update-pass" in options
    if "input-file" in options:
        return _md5_of_file(options, update)
    if "prompt" in options:
        password = _prompt("password: ")
    elif words:
        password = words[0]
    else:
        _say(usage)
        return 1
    if update:
        user = _check_user(_user(options))
        write_entries(_target(options), {user: md5_entry(user, _checked(password))})
    else:
        print(md5_hex(_checked(password)))
    return 0


def _md5_of_file(options: dict[str, str], update: bool) -> int:
    path = _target(options) if update else ""
    entries = {}

    def complain(number: int) -> None:
        print(f"LINE#{number:02d}: Invalid username:password pair")

    for number, user, password in _pairs(options["input-file"], complain):
        print(f"LINE#{number:02d}: USER: <{user}>")
        if update:
            entries[user] = md5_entry(user, _checked(password))
        else:
            print(md5_hex(_checked(password)))
    if entries:
        write_entries(path, entries)
    return 0


# -- pg_enc -----------------------------------------------------------------------------------------------------------


def pg_enc(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return _guarded(_pg_enc, sys.argv[1:] if argv is None else argv)


def _pg_enc(argv: Sequence[str]) -> int:
    read = _read(ENC, argv)
    if read is None or "help" in read[0]:
        key_file = os.path.expanduser("~/.pgpoolkey")
        print(ENC_USAGE.format(version=version_text(), program=sys.argv[0], key_file=key_file), end="")
        return 0
    options, words = read
    if "input-file" not in options and not words and not sys.stdin.isatty():
        raise Stop("stdin is not tty\n")
    key = _key(options)
    update = "update-pass" in options
    if "input-file" in options:
        return _encrypt_file(options, key, update)
    password = _checked(words[0] if words and "prompt" not in options else _prompt("db password: "))
    if update:
        user = _check_user(_user(options))
        write_entries(_target(options), {user: aes.encrypt(_bytes(password), key)})
    else:
        _print_encrypted(password, key)
    return 0


def _key(options: dict[str, str]) -> bytes:
    """The encryption key. Raises Stop when there is none."""
    if options.get("enc-key"):
        return _bytes(options["enc-key"])
    if "prompt-for-key" in options:
        key = _bytes(_prompt("encryption key: "))
    else:
        path = aes.key_file(options.get("key-file", ""))
        print(f"trying to read key from file {path}")
        try:
            key = aes.read_key(path)
        except OSError:
            key = b""
    if not key:
        raise Stop("encryption key not provided\n")
    return key


def _print_encrypted(password: str, key: bytes) -> None:
    text = aes.encrypt(_bytes(password), key)
    print(f"\n{text.removeprefix(aes.PREFIX)}\npool_passwd string: {text}")


def _encrypt_file(options: dict[str, str], key: bytes, update: bool) -> int:
    path = _target(options) if update else ""
    entries = {}

    def complain(number: int) -> None:
        _say(f"LINE#{number:02d}: invalid username:password pair\n")

    for _, user, password in _pairs(options["input-file"], complain):
        if update:
            entries[user] = aes.encrypt(_bytes(_checked(password)), key)
        else:
            _print_encrypted(_checked(password), key)
    if entries:
        write_entries(path, entries)
    return 0


def _guarded(command: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
    try:
        return command(argv)
    except Stop as stop:
        _say(stop.message)
        return 1
    except KeyboardInterrupt:
        return 130
