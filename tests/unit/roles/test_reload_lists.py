"""Lists that only routing can read are judged at start and at reload."""

import pytest

from pgpool.config.settings import load
from pgpool.errors import ConfigFaults
from pgpool.roles.options import Options
from pgpool.roles.reload import check_lists, read_again


def test_bad_expression_is_a_fault_with_its_line(tmp_path):
    conf = tmp_path / "pgpool.conf"
    conf.write_text("port = 19999\nwrite_function_list = 'fine,(open'\n")
    with pytest.raises(ConfigFaults) as caught:
        check_lists(load(str(conf)).settings)
    assert [(f.file, f.line) for f in caught.value.faults] == [(str(conf), 2)]
    assert "(open" in str(caught.value)


def test_reload_keeps_the_old_list(tmp_path):
    conf = tmp_path / "pgpool.conf"
    conf.write_text("write_function_list = 'fine'\n")
    settings = load(str(conf)).settings
    conf.write_text("write_function_list = '(open'\n")
    assert read_again(Options(str(conf)), settings) is settings
    conf.write_text("write_function_list = 'other'\n")
    assert read_again(Options(str(conf)), settings).write_function_list == ("other",)
