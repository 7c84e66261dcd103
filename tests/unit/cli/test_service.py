"""The unit file and the logrotate snippet fit the program."""

import configparser
from pathlib import Path

from pgpool.cli.pgpool import parse_command

ETC = Path(__file__).parents[3] / "etc"


def test_the_unit_starts_what_it_says():
    unit = configparser.RawConfigParser(strict=True)
    unit.optionxform = str
    unit.read(ETC / "pgpool.service")
    service = unit["Service"]
    program, *arguments = service["ExecStart"].split()
    command = parse_command(arguments)
    assert program.endswith("/pgpool") and command.word == "start"
    assert command.options.foreground and command.options.config_file == "/etc/pgpool2/pgpool.conf"
    assert (service["Type"], service["KillSignal"]) == ("notify", "SIGINT")


def test_logrotate_names_the_process_as_ps_shows_it():
    from pgpool.roles import logger

    snippet = (ETC / "pgpool.logrotate").read_text()
    assert "PgpoolLogger" in snippet and 'set_title("PgpoolLogger")' in Path(logger.__file__).read_text()
    assert snippet.count("{") == snippet.count("}")
