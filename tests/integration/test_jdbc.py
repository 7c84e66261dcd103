"""PgJDBC (Debian's libpostgresql-jdbc-java): the same program, on PostgreSQL itself and through pgpool, says the same."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from bench.targets import tls_settings
from tests.support.places import short_dir

DRIVER = Path("/usr/share/java/postgresql.jar")
SOURCE = Path(__file__).parent / "jdbc" / "Jdbc.java"
SECRET = "pencil"

pytestmark = pytest.mark.skipif(
    not (DRIVER.exists() and shutil.which("javac") and shutil.which("java")), reason="no PgJDBC, or no Java to compile with"
)


@pytest.fixture(scope="module")
def classes(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("jdbc")
    subprocess.run(["javac", "-cp", DRIVER, "-d", place, SOURCE], check=True)
    return place


@pytest.fixture(scope="module")
def role(cluster):
    with cluster.primary.connect("postgres") as conn:
        conn.execute("SET password_encryption = 'scram-sha-256'")
        conn.execute(f"CREATE ROLE jdbc LOGIN PASSWORD '{SECRET}'")
    cluster.wait_for_catchup()
    yield "jdbc"
    cluster.primary.execute("DROP ROLE jdbc")


def told(classes: Path, server, role: str, **options: str) -> str:
    url = f"jdbc:postgresql://{server.host}:{server.port}/app?" + "&".join(f"{k}={v}" for k, v in options.items())
    argv = ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", f"{DRIVER}:{classes}", "Jdbc", url, role, SECRET]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("mode", ["extended", "simple"])
def test_everything_as_without_pgpool(classes, cluster, pgpool, role, mode):
    plain = told(classes, cluster.primary, role, preferQueryMode=mode, sslmode="disable")
    assert "user jdbc" in plain and plain.count(" done") > 8, plain
    assert told(classes, pgpool, role, preferQueryMode=mode, sslmode="disable") == plain


def test_scram_and_tls(classes, cluster, make_pgpool, role):
    place = short_dir("pgp")
    try:
        pgpool = make_pgpool(
            {**tls_settings(place), "enable_pool_hba": True},
            files={
                "pool_hba.conf": "hostssl all jdbc all scram-sha-256\nhost all postgres all trust\n",
                "pool_passwd": f"jdbc:TEXT{SECRET}\n",
            },
        )
        plain = told(classes, cluster.primary, role, sslmode="disable")
        assert told(classes, pgpool, role, sslmode="require") == plain
    finally:
        shutil.rmtree(place)
