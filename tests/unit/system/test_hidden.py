"""Passwords are taken out of SQL texts."""

import time

import pytest

from pgpool.system.hidden import without_passwords


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("ALTER ROLE a PASSWORD 'S3CRET' VALID UNTIL 'x'", "ALTER ROLE a PASSWORD '*****' VALID UNTIL 'x'"),
        ("create user a password\n\t'S3''CRET' login", "create user a password\n\t'*****' login"),
        (r"ALTER ROLE a PASSWORD E'S3\'CRET' LOGIN", "ALTER ROLE a PASSWORD '*****' LOGIN"),
        ("ALTER ROLE a PASSWORD U&'S3CRET'", "ALTER ROLE a PASSWORD '*****'"),
        ("ALTER ROLE a PASSWORD $x$S3$CRET$x$ LOGIN", "ALTER ROLE a PASSWORD '*****' LOGIN"),
        ("ALTER ROLE a PASSWORD $$S3CRET", "ALTER ROLE a PASSWORD '*****'"),
        ("ALTER ROLE a ENCRYPTED PASSWORD 'S3CRET cut of", "ALTER ROLE a ENCRYPTED PASSWORD '*****'"),
        ("ALTER ROLE a PASSWORD 'S3CRET cut off\\", "ALTER ROLE a PASSWORD '*****'"),
        ("ALTER ROLE a PASSWORD 'S3CRET'; ALTER ROLE b PASSWORD 'S3CRET'",
         "ALTER ROLE a PASSWORD '*****'; ALTER ROLE b PASSWORD '*****'"),
        ("SELECT * FROM t WHERE password = 'S3CRET' AND id = '1'", "SELECT * FROM t WHERE password = '*****' AND id = '1'"),
        ("PGPOOL SET health_check_password0 TO 'S3CRET'", "PGPOOL SET health_check_password0 TO *****"),
        ("pgpool set sr_check_password = S3CRET", "pgpool set sr_check_password = *****"),
        ("PGPOOL SET wd_authkey TO 'S3CRET'", "PGPOOL SET wd_authkey TO *****"),
        ("ALTER ROLE a PASSWORD NULL", "ALTER ROLE a PASSWORD NULL"),
        ("SELECT password FROM t WHERE name = 'x'", "SELECT password FROM t WHERE name = 'x'"),
        ("PGPOOL SET client_idle_limit TO 5", "PGPOOL SET client_idle_limit TO 5"),
        ("password authentication failed for user \"u\"", "password authentication failed for user \"u\""),
    ],
)  # fmt: skip
def test_texts(text, left):
    assert without_passwords(text) == left


@pytest.mark.parametrize(
    "text",
    ["password" * 20000, "password" + " " * 200000, "password '" + "\\'" * 100000, "pgpool set " + "a" * 200000],
    ids=["words", "blanks", "escapes", "name"],
)
def test_long_texts_take_no_long_time(text):
    began = time.process_time()
    without_passwords(text)
    assert time.process_time() - began < 1
