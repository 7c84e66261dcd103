"""The placeholders of failover_command and the like: each one, against what Debian's pgpool2 4.3.5 ran."""

import pytest

from pgpool.policy.commands import Happening, Place, expand

OLD, NEW = Place(0, "h0", 5432, "/data 0"), Place(1, "h1", 5433, "/data1")
DETACHED = Happening(OLD, NEW, 0, OLD)
LAST = Happening(NEW, Place(), 1, NEW)


@pytest.mark.parametrize(
    ("template", "happening", "command"),
    [
        ("[%d][%h][%p][%D]", DETACHED, "[0][h0][5432][/data 0]"),
        ("[%m][%H][%r][%R]", DETACHED, "[1][h1][5433][/data1]"),
        ("[%M][%P][%N][%S]", DETACHED, "[0][0][h0][5432]"),
        ("[%m][%H][%r][%R]", LAST, '[-1][""][""][""]'),
        ("[%M][%P][%N][%S]", LAST, "[1][1][h1][5433]"),
        ("100%% %%d %x|%", DETACHED, "100% %d |"),
        ("failover.sh %d %M %m", DETACHED, "failover.sh 0 0 1"),
        ("", DETACHED, ""),
        ("no placeholder\n", DETACHED, "no placeholder\n"),
        ("%N %S", Happening(NEW, NEW, 1, Place()), '"" ""'),
    ],
)
def test_expand(template, happening, command):
    assert expand(template, happening) == command
