"""Which files with secrets everybody can read."""

from pgpool.auth import hba
from pgpool.config.settings import load
from pgpool.roles.exposed import exposed, secret_files, tell_exposed
from pgpool.roles.options import Options


def write(path, text: str, mode: int = 0o644):
    path.write_text(text)
    path.chmod(mode)
    return path


def configured(tmp_path, text: str):
    conf = write(tmp_path / "pgpool.conf", text)
    options = Options(str(conf), str(tmp_path / "pool_hba.conf"), str(tmp_path / "pcp.conf"))
    return load(str(conf)).settings, options


def test_a_configuration_without_secrets_may_be_read(tmp_path):
    settings, options = configured(tmp_path, "pool_passwd = 'pool_passwd'\nsr_check_user = 'x'\n")
    assert secret_files(settings, options, None) == [str(tmp_path / "pcp.conf"), str(tmp_path / "pool_passwd")]


def test_passwords_and_the_file_they_are_in(tmp_path):
    included = write(tmp_path / "secrets.conf", "health_check_password1 = 'abc'\n")
    settings, options = configured(tmp_path, "include 'secrets.conf'\npool_passwd = ''\n")
    rules = hba.parse("host all all all ldap ldapbasedn=x ldapbinddn=y ldapbindpasswd=z\n", "h", str)
    assert set(secret_files(settings, options, rules)) == {options.pcp_file, options.hba_file, str(included)}


def test_readable_by_everybody(tmp_path, capfd):
    good = [write(tmp_path / name, "x", mode) for name, mode in (("a", 0o600), ("b", 0o640))]
    empty, bad = write(tmp_path / "c", ""), write(tmp_path / "d", "x", 0o644)
    assert exposed(map(str, [*good, empty, tmp_path / "missing", bad])) == [str(bad)]
    settings, options = configured(tmp_path, "pool_passwd = 'd'\n")
    tell_exposed(settings, options, None)
    assert f'file "{bad}" holds passwords and can be read by everybody' in capfd.readouterr().err
