"""Settings and plugins of all tests."""

import pytest

pytest_plugins = ["tests.support.fixtures_servers", "tests.support.fixtures_data"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: takes more than five seconds (deselect with -m 'not long')")
    config.addinivalue_line("markers", "needs_pgpool: makes no sense with --proxy direct")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads its marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    direct = config.getoption("--proxy") == "direct"
    for item in items:
        path = item.nodeid.partition("::")[0]
        versus = path.startswith("tests/versus/")  # its last test judges what all the others have seen
        item.add_marker(pytest.mark.xdist_group("tests/versus" if versus else path))
        if "tests/integration/" in item.nodeid and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(120))
        if direct and item.get_closest_marker("needs_pgpool"):
            item.add_marker(pytest.mark.skip(reason="needs a pgpool"))
