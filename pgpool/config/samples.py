"""Writes the samples in etc/ and docs/configuration.md: ``python -m pgpool.config.samples [root]``."""

from __future__ import annotations

import sys
from pathlib import Path

from .render import MODES, conf_text, docs_text

PCP_CONF = """\
# pcp.conf - users who may give administration commands (pcp_node_info, pcp_attach_node, ...)
#
# One user a line:  name:md5 hash of the password
#
# The hash is printed by  pg_md5 -p  . These users have nothing to do with those of PostgreSQL.
# Lines that begin with # and blank lines do not count.
#
# Example, with the password "postgres" (do not use it):
#postgres:e8a48653851e28c69d0506508fb27fc5
"""

POOL_HBA_CONF = """\
# pool_hba.conf - which clients may come in, and how they prove who they are; used when enable_pool_hba = on
#
# A line is one of
#   local      DATABASE  USER  METHOD  [OPTIONS]
#   host       DATABASE  USER  ADDRESS  METHOD  [OPTIONS]
#   hostssl    DATABASE  USER  ADDRESS  METHOD  [OPTIONS]
#   hostnossl  DATABASE  USER  ADDRESS  METHOD  [OPTIONS]
#
# The first line that fits the connection decides; when none fits, the client is refused.
#
# local: unix socket. host: TCP. hostssl: TCP with TLS only. hostnossl: TCP without TLS only.
# DATABASE: names separated by commas, all, sameuser, or @file with names in it.
# USER: names separated by commas, all, or @file. Groups (samegroup, samerole, +name) never fit.
# ADDRESS: 192.0.2.0/24, 2001:db8::/32, an address and a mask in two words, all, samehost, samenet, a host name, or
#   .example.org for all hosts of a domain.
# METHOD: trust, reject, scram-sha-256, md5, password, cert, pam, ldap. scram-sha-256 and md5 need the user's line in
#   pool_passwd. cert needs TLS and a client certificate whose common name is the user.
# OPTIONS: name=value. pam: pamservice. ldap: ldapserver, ldapport, ldapscheme, ldaptls, ldapprefix, ldapsuffix,
#   ldapbasedn, ldapbinddn, ldapbindpasswd, ldapsearchattribute, ldapsearchfilter, ldapurl.
#   pam and ldap: backend_use_passwd=1 logs in to the backends with the password the client gave.
#
# A change takes effect with "pgpool reload". Trust lets everybody on this machine in: change it where that is too much.

# TYPE  DATABASE    USER        ADDRESS                 METHOD

local   all         all                                 trust
host    all         all         127.0.0.1/32            trust
host    all         all         ::1/128                 trust
"""


def files() -> dict[str, str]:
    """Path below the project's root -> what has to be in it."""
    made = {"etc/pgpool.conf.sample": conf_text({})}
    for mode, active in MODES.items():
        made[f"etc/pgpool.conf.sample-{mode}"] = conf_text(active)
    made["etc/pcp.conf.sample"] = PCP_CONF
    made["etc/pool_hba.conf.sample"] = POOL_HBA_CONF
    made["docs/configuration.md"] = docs_text()
    return made


def main(arguments: list[str]) -> int:
    root = Path(arguments[0]) if arguments else Path(__file__).parents[2]
    for name, text in files().items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
