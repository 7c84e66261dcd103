"""Logging in through pgpool: every front method x backend method x stored form, on a primary and a standby.

Roles are named <backend method>_<stored form>; databases are named after the pool_hba method that guards them.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from pathlib import Path

import asyncpg
import psycopg
import pytest

from pgpool.auth import aes, exchange
from tests.support.places import free_port, short_dir
from tests.support.servers import DEBIAN, Cluster, Pgpool, wait_until

BACKENDS = ("trust", "password", "md5", "scram")
FORMS = ("text", "aes", "plain", "md5", "verifier", "none")
FRONTS = ("trust", "password", "md5", "scram", "reject")
SECRET = "correct horse"
KEY = "a key"

HBA = {"scram": "scram-sha-256"}


@pytest.fixture(scope="module")
def guarded():
    """A primary and a standby whose pg_hba.conf asks every role for its own method."""
    made = Cluster(databases=("app", *(f"via_{front}" for front in FRONTS)))
    try:
        made.create()
        lines = "".join(f"host all +{b}_roles all {HBA.get(b, b)}\n" for b in BACKENDS)
        for number, node in enumerate(made.nodes):
            if number == 0:
                with node.connect("postgres") as conn:
                    for backend in BACKENDS:
                        conn.execute(f"CREATE ROLE {backend}_roles")
                        kind = "md5" if backend == "md5" else "scram-sha-256"
                        conn.execute(f"SET password_encryption = '{kind}'")
                        for form in FORMS:
                            conn.execute(
                                f"CREATE ROLE {backend}_{form} LOGIN PASSWORD '{SECRET}' IN ROLE {backend}_roles"
                            )
            hba = node.data / "pg_hba.conf"
            hba.write_text(lines + hba.read_text())
            node.reload()
        made.wait_for_catchup()
        yield made
    finally:
        made.remove()


def stored(role: str, form: str, verifier: str) -> str:
    """The line of pool_passwd for a role."""
    secrets = {
        "text": "TEXT" + SECRET,
        "aes": aes.encrypt(SECRET.encode(), KEY.encode()),
        "plain": SECRET,
        "md5": exchange.md5_secret(SECRET.encode(), role.encode()).decode(),
        "verifier": verifier,
    }
    return f"{role}:{secrets[form]}\n"


@pytest.fixture(scope="module")
def pool_passwd(guarded: Cluster) -> str:
    lines = []
    with guarded.primary.connect("postgres") as conn:
        for backend in BACKENDS:
            for form in FORMS[:-1]:
                role = f"{backend}_{form}"
                row = conn.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [role]).fetchone()
                verifier = row[0] if backend != "md5" else exchange.render_verifier(
                    exchange.make_verifier(SECRET.encode(), b"sixteen bytes of")
                )  # fmt: skip
                lines.append(stored(role, form, verifier))
    return "".join(lines)


@pytest.fixture(scope="module")
def make(guarded: Cluster, pool_passwd: str, proxy_kind: str):
    """make(**settings): a pgpool before the guarded cluster with pool_passwd and key file."""
    if proxy_kind == "direct":
        pytest.skip("needs a pgpool")
    made: list[Pgpool] = []
    rules = "host all postgres all trust\n" + "".join(f"host via_{f} all all {HBA.get(f, f)}\n" for f in FRONTS)

    def build(files: dict[str, str] | None = None, binary: str = "", nodes: int = 2, **settings: object) -> Pgpool:
        contents = {"pool_hba.conf": rules, "pool_passwd": pool_passwd, "key": KEY + "\n", **(files or {})}
        pgpool = Pgpool(guarded.nodes[:nodes], settings, binary=binary or proxy_kind, files=contents)
        made.append(pgpool)
        Path(pgpool.place / "key").chmod(0o600)
        pgpool.options = ("-k", str(pgpool.place / "key"))
        return pgpool.start()

    yield build
    faults = []
    for pgpool in made:
        try:
            pgpool.remove()
        except AssertionError as error:
            faults.append(str(error))
    assert not faults, "\n".join(faults)


@pytest.fixture(scope="module")
def off(make) -> Pgpool:
    return make(backend_weight0=0)


@pytest.fixture(scope="module")
def clear(make) -> Pgpool:
    return make(allow_clear_text_frontend_auth=True)


@pytest.fixture(scope="module")
def on(make) -> Pgpool:
    return make(enable_pool_hba=True, backend_weight0=0)


def attempt(pgpool: Pgpool, database: str, role: str, password: str | None) -> str:
    """'ok', or the text of the refusal."""
    options = {} if password is None else {"password": password}
    try:
        with pgpool.connect(database, user=role, passfile="/nonexistent", **options) as conn:
            assert conn.execute("SELECT current_user, session_user").fetchone() == (role, role)
            return "ok"
    except psycopg.OperationalError as error:
        return str(error)


NO_SECRET = "valid password not found"


def expected(front: str, backend: str, form: str) -> str:
    """What the right password gets: 'ok' or a part of the refusal."""
    if front in ("off", "clear"):
        return "ok"
    if front == "reject":
        return "client authentication failed"
    if front == "trust":
        # an md5 hash logs in to nothing but md5
        return NO_SECRET if form == "md5" and backend in ("password", "scram") else "ok"
    if front == "password":
        # nobody could check it: neither we nor a backend that trusts
        return "password authentication failed" if form == "none" and backend == "trust" else "ok"
    if front == "md5":
        if form in ("verifier", "none"):
            return "md5 authentication failed"
        return NO_SECRET if form == "md5" and backend in ("password", "scram") else "ok"
    if form in ("md5", "none"):
        return "SCRAM authentication failed"
    return NO_SECRET if form == "verifier" and backend in ("password", "md5") else "ok"


def open_door(front: str, backend: str, form: str) -> bool:
    """Does a client get in with a wrong password, or with none?"""
    if front in ("off", "clear", "trust") and backend == "trust":
        return True
    # the administrator's trust line, and a stored secret that this backend takes
    return front == "trust" and (form in ("text", "aes", "plain") or (form == "md5" and backend == "md5"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("front", ["off", "clear", *FRONTS])
def test_matrix(request: pytest.FixtureRequest, front: str, backend: str, form: str) -> None:
    pgpool = request.getfixturevalue(front if front in ("off", "clear") else "on")
    database = "app" if front in ("off", "clear") else f"via_{front}"
    role = f"{backend}_{form}"
    assert expected(front, backend, form) in attempt(pgpool, database, role, SECRET)

    wrong, none = attempt(pgpool, database, role, "wrong"), attempt(pgpool, database, role, None)
    opens = open_door(front, backend, form)
    assert (wrong == "ok", none == "ok") == (opens, opens), (wrong, none)


def settings_of(front: str) -> dict[str, object]:
    return {"off": {}, "clear": {"allow_clear_text_frontend_auth": True}}.get(front, {"enable_pool_hba": True})


@pytest.mark.parametrize("front", ["off", "clear", *FRONTS])
def test_matrix_on_one_backend(make, front: str) -> None:
    """The same with a single server in raw mode, whose links are used again by whoever comes next."""
    pgpool = make(nodes=1, backend_clustering_mode="raw", num_init_children=2, max_pool=24, **settings_of(front))
    database = "app" if front in ("off", "clear") else f"via_{front}"
    for backend in BACKENDS:
        for form in FORMS:
            role, case = f"{backend}_{form}", (front, backend, form)
            assert expected(*case) in attempt(pgpool, database, role, SECRET), case
            assert (attempt(pgpool, database, role, "wrong") == "ok") == open_door(*case), case


#: (front, backend, form) that the incumbent (4.3.5) lets in and we do not: nobody checked what the client typed.
VOUCHED = {("password", "trust", "none")}


@pytest.mark.versus
@pytest.mark.skipif(not DEBIAN.exists(), reason="Debian's pgpool2 is not installed")
@pytest.mark.parametrize(("front", "nodes"), [("off", 1), ("clear", 1), ("off", 2), ("clear", 2), *((f, 2) for f in FRONTS)])
def test_matrix_beside_the_incumbent(make, front: str, nodes: int) -> None:
    """Who gets into Debian's pgpool gets into ours, and with a wrong password or none nobody gets into ours only."""
    mode = {"backend_clustering_mode": "raw"} if nodes == 1 else {}
    theirs = make(binary="debian", nodes=nodes, **mode, **settings_of(front))
    database = "app" if front in ("off", "clear") else f"via_{front}"
    for backend in BACKENDS:
        for form in FORMS:
            role, case = f"{backend}_{form}", (front, backend, form)
            if attempt(theirs, database, role, SECRET) == "ok" and case not in VOUCHED:
                assert expected(*case) == "ok", case
            for password in ("wrong", None):
                if open_door(*case):
                    assert attempt(theirs, database, role, password) == "ok", case
    theirs.stop("immediate")


@pytest.mark.parametrize(
    "role", ["password_none", "md5_none", "md5_text", "scram_none", "scram_text", "scram_verifier"]
)
def test_another_driver(off: Pgpool, on: Pgpool, role: str) -> None:
    """asyncpg has its own code for every exchange, and wants PostgreSQL's SQLSTATE for a wrong password."""

    async def talk(pgpool: Pgpool, database: str, password: str) -> str:
        conn = await asyncpg.connect(
            host=pgpool.host, port=pgpool.port, user=role, database=database, password=password, ssl=False
        )
        try:
            return await conn.fetchval("SELECT current_user")
        finally:
            await conn.close()

    assert asyncio.run(talk(off, "app", SECRET)) == role
    with pytest.raises(asyncpg.InvalidPasswordError):
        asyncio.run(talk(off, "app", "wrong"))
    front = {"md5_text": "md5", "scram_text": "scram", "scram_verifier": "scram"}.get(role, "password")
    assert asyncio.run(talk(on, f"via_{front}", SECRET)) == role


def where_reads_go(pgpool: Pgpool, role: str, guarded: Cluster) -> str:
    with pgpool.connect("app", user=role, password=SECRET) as conn:
        port = conn.execute("SELECT inet_server_port()").fetchone()[0]
    return {guarded.primary.port: "primary", guarded.standby.port: "standby"}[port]


@pytest.mark.parametrize(
    ("role", "node"),
    [
        ("trust_none", "standby"), ("password_none", "standby"), ("md5_text", "standby"), ("md5_md5", "standby"),
        ("scram_aes", "standby"), ("scram_verifier", "standby"),
        # what the primary checked for us leaves nothing to log in to a standby with
        ("md5_none", "primary"), ("scram_none", "primary"), ("scram_md5", "primary"),
    ],
)  # fmt: skip
def test_reads_go_to_the_standby_when_its_login_is_possible(
    off: Pgpool, guarded: Cluster, role: str, node: str
) -> None:
    assert where_reads_go(off, role, guarded) == node
    # and from the pool
    assert where_reads_go(off, role, guarded) == node


def backend_pid(pgpool: Pgpool, role: str, password: str | None, database: str = "app") -> int:
    options = {} if password is None else {"password": password}
    with pgpool.connect(database, user=role, **options) as conn:
        conn.execute("BEGIN")
        return conn.execute("SELECT pg_backend_pid()").fetchone()[0]


@pytest.fixture(scope="module")
def one_child(make) -> Pgpool:
    return make(num_init_children=1, max_pool=4, backend_clustering_mode="raw")


@pytest.mark.parametrize(
    ("role", "reused"),
    [
        ("trust_none", True), ("password_none", True), ("md5_text", True), ("md5_md5", True), ("scram_text", True),
        ("scram_verifier", True), ("md5_none", False), ("scram_none", False),
    ],
)  # fmt: skip
def test_pooled_links(one_child: Pgpool, role: str, reused: bool) -> None:
    """A pooled link goes only to a client who has proved himself again."""
    first = backend_pid(one_child, role, SECRET)
    second = backend_pid(one_child, role, SECRET)
    assert (first == second) == reused
    if not role.startswith("trust"):
        for password in ("wrong", None):
            with pytest.raises(psycopg.OperationalError, match="password"):
                backend_pid(one_child, role, password)


def test_a_changed_password_counts_at_once(one_child: Pgpool, guarded: Cluster) -> None:
    role = "password_none"
    backend_pid(one_child, role, SECRET)
    guarded.execute(f"ALTER ROLE {role} PASSWORD 'new one'")
    try:
        backend_pid(one_child, role, "new one")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            backend_pid(one_child, role, SECRET)
    finally:
        guarded.execute(f"ALTER ROLE {role} PASSWORD '{SECRET}'")


def test_the_backends_refusal_arrives_as_it_was(off: Pgpool, guarded: Cluster) -> None:
    for options in (
        {"user": "scram_none", "password": "wrong"},
        {"user": "postgres", "database": "no such database"},
        {"user": "no such role"},
    ):
        database = options.pop("database", "app")
        seen = []
        for server in (guarded.primary, off):
            with pytest.raises(psycopg.OperationalError) as caught:
                server.connect(database, **options)
            seen.append(str(caught.value)[str(caught.value).index("FATAL:") :])
        assert seen[0] == seen[1]


def test_pool_hba_and_pool_passwd_are_reread(make) -> None:
    pgpool = make(
        {"pool_hba.conf": "host all postgres all trust\nhost all all all scram-sha-256\n", "pool_passwd": ""},
        enable_pool_hba=True,
    )
    assert "SCRAM authentication failed" in attempt(pgpool, "app", "scram_text", SECRET)
    (pgpool.place / "pool_passwd").write_text(f"scram_text:TEXT{SECRET}\n")
    pgpool.reload()
    wait_until(lambda: attempt(pgpool, "app", "scram_text", SECRET) == "ok", "pool_passwd to be reread", 10)

    mark = pgpool.mark()
    (pgpool.place / "pool_hba.conf").write_text("host all postgres all trust\nhost all all all nonsense\nfoo\n")
    pgpool.reload()
    pgpool.wait_for_log("pool_hba", mark)
    assert attempt(pgpool, "app", "scram_text", SECRET) == "ok"
    (pgpool.place / "pool_hba.conf").write_text("host all postgres all trust\nhost all all all reject\n")
    pgpool.reload()
    wait_until(
        lambda: "client authentication failed" in attempt(pgpool, "app", "scram_text", SECRET), "pool_hba to count", 10
    )


def test_secrets_are_not_logged(off: Pgpool, on: Pgpool, clear: Pgpool) -> None:
    for pgpool in (off, on, clear):
        text = pgpool.log_text()
        assert SECRET not in text and KEY not in text and "SCRAM-SHA-256$" not in text


def test_a_pool_hba_with_faults_stops_the_start(make) -> None:
    with pytest.raises(RuntimeError) as caught:
        make({"pool_hba.conf": "host all all all nonsense\nfoo\n"}, enable_pool_hba=True)
    assert 'pool_hba.conf:1: invalid authentication method "nonsense"' in str(caught.value)
    assert 'pool_hba.conf:2: invalid connection type "foo"' in str(caught.value)


# -- pam and ldap -----------------------------------------------------------------------------------------------------

BASE = "dc=example,dc=org"
DIRECTORY = f"""dn: {BASE}
objectClass: dcObject
objectClass: organization
o: example
dc: example

dn: cn=finder,{BASE}
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: finder
userPassword: seek

""" + "".join(
    f"dn: uid={user},{BASE}\nobjectClass: account\nobjectClass: simpleSecurityObject\n"
    f"uid: {user}\nuserPassword: {SECRET}\n\n"
    for user in ("trust_none", "scram_none")
)  # fmt: skip


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def slapd():
    """The port of an LDAP server of our own."""
    program = shutil.which("slapd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("slapd is not installed")
    place, port = short_dir("ldap"), free_port()
    (place / "db").mkdir()
    (place / "slapd.conf").write_text(
        "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n"
        f"modulepath /usr/lib/ldap\nmoduleload back_mdb\npidfile {place}/pid\ndatabase mdb\nsuffix {BASE}\n"
        f"directory {place}/db\naccess to attrs=userPassword by anonymous auth\naccess to * by * read\n"
    )
    (place / "all.ldif").write_text(DIRECTORY)
    subprocess.run([program, "-T", "add", "-f", place / "slapd.conf", "-l", place / "all.ldif"], check=True)
    process = subprocess.Popen([program, "-d", "0", "-f", place / "slapd.conf", "-h", f"ldap://127.0.0.1:{port}"])
    try:
        wait_until(lambda: listens(port), "slapd")
        yield port
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(place, ignore_errors=True)


def guard(make, method: str) -> Pgpool:
    rules = f"host all postgres all trust\nhost all all all {method}\n"
    return make(files={"pool_hba.conf": rules, "pool_passwd": ""}, enable_pool_hba=True, num_init_children=4)


LDAP = {
    "search": f'ldapbasedn="{BASE}"',
    "bound search": f'ldapbasedn="{BASE}" ldapbinddn="cn=finder,{BASE}" ldapbindpasswd=seek',
    "filter": f'ldapbasedn="{BASE}" ldapsearchfilter="(&(objectClass=account)(uid=$username))"',
    "prefix": f'ldapprefix="uid=" ldapsuffix=",{BASE}"',
}


@pytest.mark.parametrize("how", LDAP)
def test_ldap(make, slapd, how):
    server = f"ldapserver=127.0.0.1 ldapport={slapd}"
    pgpool = guard(make, f"ldap {server} {LDAP[how]} backend_use_passwd=1")
    for role in ("trust_none", "scram_none"):
        assert attempt(pgpool, "app", role, SECRET) == "ok"
        for wrong in ("wrong", None, "*"):
            assert attempt(pgpool, "app", role, wrong) != "ok"
    for stranger in ("md5_none", "*", "trust_none)(uid=*", f"trust_none,{BASE}"):
        assert f'LDAP authentication failed for user "{stranger}"' in attempt(pgpool, "app", stranger, SECRET)
    assert SECRET not in pgpool.log_text() and "seek" not in pgpool.log_text()


def test_ldap_url_and_servers(make, slapd):
    url = f"ldapurl=ldap://127.0.0.1:{slapd}/{BASE.replace('=', '%3D')}?uid?sub"
    assert attempt(guard(make, f'ldap "{url}"'), "app", "trust_none", SECRET) == "ok"
    # the first one does not answer; the password is not the backend's without backend_use_passwd
    two = guard(make, f'ldap ldapserver="127.0.0.2 127.0.0.1" ldapport={slapd} ldapbasedn="{BASE}"')
    assert attempt(two, "app", "trust_none", SECRET) == "ok"
    assert NO_SECRET in attempt(two, "app", "scram_none", SECRET)


def test_ldap_server_that_is_not_there(make):
    pgpool = guard(make, f"ldap ldapserver=127.0.0.1 ldapport={free_port()} ldapprefix=uid=")
    assert "LDAP authentication failed" in attempt(pgpool, "app", "trust_none", SECRET)
    assert "could not reach LDAP server" in pgpool.log_text()


@pytest.fixture
def pam_service(tmp_path):
    """A PAM service that knows one password."""
    services = Path("/etc/pam.d")
    if not os.access(services, os.W_OK):
        pytest.skip("only root may add a PAM service")
    checker = tmp_path / "check"
    checker.write_text(f'#!/bin/sh\nread -r given\n[ "$PAM_USER" != md5_none ] && [ "$given" = "{SECRET}" ]\n')
    checker.chmod(0o755)
    for parent in (tmp_path, *tmp_path.parents):
        parent.chmod(parent.stat().st_mode | 0o055)
    name = f"pgpool-test-{os.getpid()}"
    rules = f"auth required pam_exec.so expose_authtok quiet {checker}\naccount required pam_permit.so\n"
    (services / name).write_text(rules)
    yield name
    (services / name).unlink()


def test_pam(make, pam_service):
    pgpool = guard(make, f"pam pamservice={pam_service} backend_use_passwd=1")
    for role in ("trust_none", "scram_none"):
        assert attempt(pgpool, "app", role, SECRET) == "ok"
        for wrong in ("wrong", None):
            assert attempt(pgpool, "app", role, wrong) != "ok"
    assert 'PAM authentication failed for user "md5_none"' in attempt(pgpool, "app", "md5_none", SECRET)
    assert SECRET not in pgpool.log_text()
    without = guard(make, f"pam pamservice={pam_service}")
    assert attempt(without, "app", "trust_none", SECRET) == "ok"
    assert NO_SECRET in attempt(without, "app", "scram_none", SECRET)


def test_pam_service_that_is_not_there(make):
    pgpool = guard(make, "pam pamservice=pgpool-no-such-service")
    assert "PAM authentication failed" in attempt(pgpool, "app", "trust_none", SECRET)
