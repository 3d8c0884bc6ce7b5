"""Fixtures of the end-to-end tests: real processes of the binary in $CHAMBERLAIN_BINARY (build/chamberlain when it is not
set), a real nats-server, and nothing outside pytest's temporary folder. Each test has a fab and ports of its own, so that
suites may run side by side."""

import os
import pathlib

import pytest

from cassandra import CassandraFab, Nodes
from cluster import Figures
from fab import Fab
from traces import CHARTS

ROOT = pathlib.Path(__file__).resolve().parents[2]


FIGURES = pytest.StashKey[Figures]()


def pytest_configure(config):
    config.addinivalue_line("markers", "full: at full size, minutes each; only with -m full (make test-full)")
    config.addinivalue_line("markers", "cluster_cassandra: several Cassandra nodes; only with -m cluster_cassandra (make test-cluster)")
    config.addinivalue_line("markers", "whole_fab: 2,000 tools for minutes; only with -m whole_fab (make test-fab)")
    config.stash[FIGURES] = Figures()


def pytest_collection_modifyitems(config, items):
    """What takes minutes is asked for by its mark, and is left out otherwise."""
    for mark in ("full", "cluster_cassandra", "whole_fab"):
        if mark not in config.getoption("-m"):
            marked = [item for item in items if item.get_closest_marker(mark)]
            items[:] = [item for item in items if item not in marked]
            config.hook.pytest_deselected(items=marked)
    if os.environ.get("CHAMBERLAIN_WITHOUT_CASSANDRA"):
        for item in items:
            if item.path.stem in ("test_cassandra", "test_whole_fab"):
                item.add_marker(pytest.mark.skip(reason="no Cassandra on this machine"))


def pytest_terminal_summary(terminalreporter, config):
    figures = config.stash[FIGURES]
    if figures.rows:
        terminalreporter.section("measured")
        for line in figures.table():
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def figures(pytestconfig):
    """Takes what a scenario measured; all of it is printed at the end."""
    return pytestconfig.stash[FIGURES]


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def binary():
    path = pathlib.Path(os.environ.get("CHAMBERLAIN_BINARY", ROOT / "build" / "chamberlain"))
    assert path.exists(), f"no {path}: run make build, or set CHAMBERLAIN_BINARY"
    return path.resolve()


@pytest.fixture
def make_fab(binary, tmp_path):
    """Makes fabs: make_fab("name") has the folder `name` to itself."""
    made = []

    def make(name):
        made.append(Fab(binary, tmp_path / name))
        return made[-1]

    yield make
    for fab in made:
        fab.close()


@pytest.fixture
def fab(make_fab):
    """A fab in which nothing runs yet."""
    return make_fab("fab")


@pytest.fixture(scope="session")
def cassandra(tmp_path_factory):
    """One node for all tests; that of scripts/test, when it has started one."""
    given = os.environ.get("CHAMBERLAIN_TEST_CASSANDRA")
    nodes = Nodes(given or tmp_path_factory.mktemp("cassandra")).start()
    yield nodes
    if not given:
        nodes.stop()


@pytest.fixture
def cassandra_fab(binary, tmp_path, cassandra):
    """A fab whose store is a new keyspace of that node; nothing else runs yet."""
    fab = CassandraFab(binary, tmp_path / "fab", cassandra)
    yield fab
    fab.close()


@pytest.fixture
def charts(tmp_path):
    """A chart file whose rules look back, so that a wrong or missing history would change verdicts."""
    path = tmp_path / "charts.yaml"
    path.write_text(CHARTS)
    return path


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows what the processes said."""
    report = (yield).get_result()
    if report.failed and call.when == "call":
        for name, value in item.funcargs.items():
            if isinstance(value, Fab):
                for log in ("up.log", "defender-0.log", "nats-server.log", "watch.log"):
                    if value.log(log):
                        report.sections.append((f"{name}: {log}", value.log(log)))
