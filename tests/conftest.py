"""Settings and plugins of all tests."""

import pytest

FIRST = ("tests/versus/", "tests/integration/test_instructions.py")
"""The longest of all. They begin first, so that no process is left alone with one of them at the end."""

pytest_plugins = ["tests.support.fixtures_servers", "tests.support.fixtures_data"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: takes more than five seconds (deselect with -m 'not long')")
    config.addinivalue_line("markers", "needs_pgpool: makes no sense with --proxy direct")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """A file stays in one process; so do all of tests/versus: the last of them judges what all the others have seen."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "tests/versus" if nodeid.startswith("tests/versus/") else super()._split_scope(nodeid)

    config.option.loadscopereorder = False  # by the number of tests: the longest has a single one
    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(FIRST))
    direct = config.getoption("--proxy") == "direct"
    for item in items:
        if "tests/integration/" in item.nodeid and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(120))
        if direct and item.get_closest_marker("needs_pgpool"):
            item.add_marker(pytest.mark.skip(reason="needs a pgpool"))
