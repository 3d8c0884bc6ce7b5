"""Two stores, of which the first is lost while contexts flow: the second stands in, and afterwards the first has everything,
judged as if nothing had happened."""

import contextlib
import json
import sqlite3
import time

import pytest

from fab import Fab, until

TOOLS, RATE, RUNS = 5, 10, 30  # 10 chambers, 300 contexts in 30 s
AWAY_S = 8


class FailoverFab(Fab):
    """A fab over two SQLite files; `store` is the primary."""

    @property
    def standby(self):
        return self.dir / "standby.db"

    @property
    def store_url(self):
        return f"failover:sqlite:{self.store},,sqlite:{self.standby}"

    def sql_in(self, file, statement, *parameters):
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=10)) as store:
            return store.execute(statement, parameters).fetchall()

    def debts(self):
        """Copies owed by the standby, judgements owed in the primary."""
        return tuple(self.sql_in(file, f"SELECT count(*) FROM debts WHERE kind {kinds}")[0][0]
                     for file, kinds in ((self.standby, "< 2"), (self.store, "= 2")))

    def mode(self):
        """What the defender says of its store."""
        return (self.nats().ask("cluster.ask.defender-0") or {}).get("store", {})

    def simulate(self, *options):
        return self.spawn("simulate", "--direct", "--tools", TOOLS, "--sensors", 5, "--run-time", "60s", "--rate", RATE,
                          "--runs", RUNS, *options, log="simulate.log")


@pytest.fixture
def pair(binary, tmp_path):
    fab = FailoverFab(binary, tmp_path / "fab")
    yield fab
    fab.close()


def verdicts_of(fab, url, name):
    """A context's verdicts, as they are in one store alone."""
    there = fab.dir / "alone"
    there.mkdir(exist_ok=True)
    (there / "cluster.json").write_text(json.dumps({"nats": fab.url, "store": url, "cell": "", "children": {}}))
    shown = fab.tool("context", "show", name, "--dir", there, "--json")
    assert shown.returncode == 0, shown.stderr
    return json.loads(shown.stdout)["verdicts"]


def time_until(condition, what, since):
    until(condition, what, 30, 0.05)
    return time.monotonic() - since


def test_a_locked_primary_is_stood_in_for_and_has_everything_afterwards(pair, charts, figures):
    """Another program holds the primary's lock for long, while a simulated fab stores and announces contexts, and a defender
    judges them. Both go on at the standby, with verdicts of low quality. When the lock is gone, all is copied and judged
    again from the whole history: every context has a verdict of good quality, `verify` agrees, nothing is left owed."""
    pair.start()
    pair.run("charts use", charts)
    load = pair.simulate()
    until(lambda: len(pair.judged_ids()) > 40, "the load to flow")
    with contextlib.closing(sqlite3.connect(pair.store, timeout=10, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        lost = time.monotonic()
        before = set(pair.judged_ids())
        to_standby = time_until(lambda: pair.mode().get("mode") == "standby", "the defender to go to the standby", lost)
        time.sleep(AWAY_S)
        assert set(pair.judged_ids()) == before, "the lock was not felt"
        meanwhile = [row[0] for row in pair.sql_in(pair.standby, "SELECT context_id FROM u_charts ORDER BY judged_us")]
        assert len(meanwhile) > RATE * AWAY_S / 4, "nothing was judged meanwhile"
        for name in (meanwhile[0], meanwhile[-1]):
            assert {verdict["quality"] for verdict in verdicts_of(pair, f"sqlite:{pair.standby}", name)} == {"low"}
        assert pair.debts()[0] >= len(meanwhile)
        other.execute("ROLLBACK")
        back = time.monotonic()
    to_primary = time_until(lambda: pair.mode().get("mode") == "primary", "the defender to go back to the primary", back)
    assert load.wait(90) == 0
    pair.wait()
    whole = time.monotonic() - back
    assert pair.debts() == (0, 0)
    states = dict(pair.sql("SELECT context_id, state FROM contexts WHERE completed"))
    assert len(states) == 2 * TOOLS * RUNS
    assert set(states.values()) == {"judged"}
    assert pair.judged_ids() == sorted(states)
    assert pair.nats().stream("dc-dead").state.messages == 0
    verified = pair.json("verify", "--strict")
    assert verified["passed"] and verified["degraded"] == 0
    assert verified["verified"] == len(states)
    figures.add("2 SQLite files", "primary locked", "to the standby (s)", f"{to_standby:.1f}", "300", "15")
    figures.add("2 SQLite files", "primary locked", "back to the primary (s)", f"{to_primary:.1f}")
    figures.add("2 SQLite files", "primary locked", "everything judged again (s)", f"{whole:.1f}")
    figures.add("2 SQLite files", "primary locked", "contexts judged at the standby", len(meanwhile))


def test_a_defender_that_dies_at_the_standby_leaves_nothing_behind(pair, charts):
    """The defender is killed while the primary is away, and another starts while it still is; it is killed too, when the
    primary is back and debts are being paid. A third finds everything, and pays the rest."""
    pair.start()
    pair.run("charts use", charts)
    load = pair.simulate()
    until(lambda: len(pair.judged_ids()) > 20, "the load to flow")
    with contextlib.closing(sqlite3.connect(pair.store, timeout=10, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        until(lambda: pair.mode().get("mode") == "standby", "the defender to go to the standby")
        time.sleep(3)
        pair.kill(pair.defender)
        pair.start_defender()
        time.sleep(3)
        other.execute("ROLLBACK")
    owed = pair.debts()[0]
    until(lambda: pair.debts()[0] < owed or owed == 0, "the debts to be paid", pause_s=0.005)
    pair.kill(pair.defender)
    pair.start_defender()
    assert load.wait(90) == 0
    pair.wait()
    assert pair.debts() == (0, 0)
    assert len(pair.judged_ids()) == 2 * TOOLS * RUNS
    assert pair.nats().stream("dc-dead").state.messages == 0
    verified = pair.json("verify", "--strict")
    assert verified["passed"] and verified["degraded"] == 0
