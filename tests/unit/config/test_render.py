"""What is written reads back, and the samples are those the table gives."""

from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from pgpool.config import forms
from pgpool.config import param as p
from pgpool.config.params import PARAMS, REMOVED
from pgpool.config.reader import parse_line
from pgpool.config.render import MODES, conf_text, sample_params, settings_text
from pgpool.config.samples import files, main
from pgpool.config.settings import Settings, load_text
from pgpool.config.values import file_text, parse
from pgpool.errors import ConfigFaults
from pgpool.model import ClusterMode

ROOT = Path(__file__).parents[3]
TEXT = st.text(st.characters(blacklist_characters="\n\0", blacklist_categories=["Cs"]), max_size=30).filter(
    lambda text: (len(text) - len(text.rstrip("\\"))) % 2 == 0)
BOUND = {forms.backend_flags: st.sampled_from(["ALLOW_TO_FAILOVER", "DISALLOW_TO_FAILOVER|ALWAYS_PRIMARY"]),
         forms.log_destinations: st.sampled_from(["stderr", "syslog,stderr"]),
         forms.redirects: st.sampled_from(["", "a:primary", "it's:1(0.5), b:standby"]),
         forms.relations: st.sampled_from(["", "a:b,f():c"])}


def values(param):
    """A strategy for values of one parameter."""
    if param.type == p.BOOL:
        return st.booleans()
    if param.type in (p.INT, p.INT64):
        return st.integers(param.min, param.max)
    if param.type == p.DOUBLE:
        return st.floats(param.min, param.max, allow_nan=False)
    if param.type == p.ENUM:
        return st.sampled_from(sorted(param.choices))
    if param.type == p.LIST:
        return TEXT.map(lambda text: forms.split_list(text, param.separator))
    return BOUND.get(param.form, TEXT)


def choice():
    """A strategy for ((name, index), value)."""
    def of(param):
        indexes = st.none() if not param.indexed else st.integers(0, 5)
        if param.indexing == p.BACKEND_DEFAULT:
            indexes |= st.none()
        return st.tuples(st.tuples(st.just(param.name), indexes), values(param))

    free = [param for param in PARAMS if param.name not in REMOVED or param.indexed]
    return st.sampled_from(free).flatmap(of)


@hypothesis.settings(deadline=None)
@hypothesis.given(st.lists(choice(), max_size=12))
def test_what_is_written_reads_back(pairs):
    written = Settings(dict(pairs))
    text = settings_text(written)
    try:
        read = load_text(text).settings
    except ConfigFaults as error:  # values that do not go together, but none that was written wrongly
        assert not [fault for fault in error.faults if fault.message.startswith(("syntax", "invalid value"))]
        return
    assert dict(read.items()) == dict(written.items())


@pytest.mark.parametrize("param", [param for param in PARAMS if param.name not in REMOVED or param.indexed],
                         ids=lambda param: param.name)
@hypothesis.settings(deadline=None, max_examples=15)
@hypothesis.given(data=st.data())
def test_every_parameter_reads_back(param, data):
    value = data.draw(values(param))
    _, text = parse_line(f"{param.name} = {file_text(param, value)} # text")
    assert parse(param, text) == value


@pytest.mark.parametrize("name", files())
def test_samples_are_fresh(name):
    assert (ROOT / name).read_text() == files()[name], "run python -m pgpool.config.samples"


def test_samples_are_written(tmp_path):
    assert main([str(tmp_path)]) == 0
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == set(files())


def uncommented(text):
    """A sample with its commented parameter lines made active."""
    return "\n".join(line[1:] if line[:1] == "#" and line[1:2].isalpha() else line for line in text.splitlines())


def test_a_sample_with_all_lines_active_gives_the_defaults():
    text = uncommented(conf_text({}))
    read = load_text(text)
    assert not [message for message in read.messages if message.level == "INFO"]
    default = Settings()
    for (name, index), value in read.settings.items():
        if index is None:
            assert value == default.value(name), name
    assert [(node.hostname, node.port) for node in read.settings.backends] == [("host1", 5432), ("host2", 5433)]
    assert {name for (name, _), _ in read.settings.items()} == {param.name for param in sample_params()}


@pytest.mark.parametrize("mode, cluster", [
    ("stream", ClusterMode.STREAMING_REPLICATION), ("logical", ClusterMode.LOGICAL_REPLICATION),
    ("raw", ClusterMode.RAW),
    ("replication", ClusterMode.NATIVE_REPLICATION), ("snapshot", ClusterMode.SNAPSHOT_ISOLATION),
    ("slony", ClusterMode.SLONY)])
def test_samples_of_the_modes(mode, cluster):
    loaded = load_text((ROOT / f"etc/pgpool.conf.sample-{mode}").read_text())
    assert loaded.settings.mode is cluster
    assert {name for (name, _), _ in loaded.settings.items()} == set(MODES[mode])


def test_conf_text_takes_values():
    text = conf_text({"port": "5000", "backend_hostname0": "'a'", "backend_port0": "5432", "backend_hostname1": "'b'",
                      "backend_port1": "5433", "health_check_user": "'h'", "health_check_user1": "'i'"})
    s = load_text(text).settings
    assert s.port == 5000
    assert [(b.hostname, b.port, b.health_check.user) for b in s.backends] == [("a", 5432, "h"), ("b", 5433, "i")]
    with pytest.raises(KeyError):
        conf_text({"prot": "5000"})


def test_the_samples_of_the_other_files_hold_no_surprise():
    made = files()
    assert [line for line in made["etc/pcp.conf.sample"].splitlines() if line and line[0] != "#"] == []
    lines = [line.split() for line in made["etc/pool_hba.conf.sample"].splitlines() if line and line[0] != "#"]
    assert [line[0] for line in lines] == ["local", "host", "host"]


def test_documentation_names_everything():
    text = files()["docs/configuration.md"]
    for param in sample_params():
        assert f"`{param.name}" in text
        for old in param.old_names:
            assert f"`{old}`" in text
    for old in REMOVED.values():
        assert f"`{old.name}" in text
