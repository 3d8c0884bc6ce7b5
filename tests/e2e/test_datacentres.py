"""Two datacentres of one Cassandra cluster, one keyspace in both: the first is lost while contexts flow, and comes back. Run by
`make test-cluster`, which prints what is measured."""

import json
import time

import pytest

from cassandra import ALL, CassandraFab, Nodes, stored_ids
from fab import until

pytestmark = pytest.mark.cluster_cassandra

TOOLS, CHAMBERS, RATE, RUNS = 5, 10, 10, 60  # 600 contexts in 60 s
AWAY_S = 10


def know_each_other(nodes):
    """Whether what must be written in both datacentres can be."""
    try:
        for number in (1, 2):
            client = nodes.cql(number)
            client("CREATE KEYSPACE IF NOT EXISTS greeting WITH replication = "
                   "{'class': 'NetworkTopologyStrategy', 'dc1': 1, 'dc2': 1}")
            client("CREATE TABLE IF NOT EXISTS greeting.seen (node int PRIMARY KEY)")
            client(f"INSERT INTO greeting.seen (node) VALUES ({number})", ALL)
            client.close()
    except (RuntimeError, OSError):
        return False
    return True


@pytest.fixture(scope="module")
def two(tmp_path_factory, figures):
    nodes = Nodes(tmp_path_factory.mktemp("two"), "2dc")
    begin = time.monotonic()
    nodes.start()
    until(lambda: know_each_other(nodes), "the datacentres to see each other", 120, 1)
    figures.add("2 datacentres", "start", "seconds", f"{time.monotonic() - begin:.1f}")
    yield nodes
    nodes.stop()


class DatacentresFab(CassandraFab):
    """A fab on both datacentres, the first before the second."""

    def address_of(self, number):
        return (f"cassandra:{self.nodes.address(number)}:{self.nodes.port}/{self.keyspace}?datacentre=dc{number}")

    @property
    def store_url(self):
        return f"failover:{self.address_of(1)},,{self.address_of(2)}"

    def cql_in(self, number, statement, consistency=None):
        client = self.nodes.cql(number)
        try:
            return client(statement.replace("KEYSPACE", self.keyspace), consistency or self.consistency)
        finally:
            client.close()

    def debts(self, number=2):
        """Copies owed, judgements owed."""
        kinds = [row[0] for row in self.cql_in(number, "SELECT kind FROM KEYSPACE.debts")]
        return sum(kind < 2 for kind in kinds), sum(kind == 2 for kind in kinds)

    def mode(self):
        return (self.nats().ask("cluster.ask.defender-0") or {}).get("store", {}).get("mode")

    def qualities(self, number, name):
        """Of a context's verdicts, as one datacentre has them."""
        there = self.dir / "alone"
        there.mkdir(exist_ok=True)
        (there / "cluster.json").write_text(json.dumps(
            {"nats": self.url, "store": self.address_of(number), "cell": "", "children": {}}))
        shown = self.tool("context", "show", name, "--dir", there, "--json")
        assert shown.returncode == 0, shown.stderr
        return {verdict["quality"] for verdict in json.loads(shown.stdout)["verdicts"]}


def test_a_lost_datacentre_is_stood_in_for_and_has_everything_afterwards(two, binary, tmp_path, charts, figures):
    """The only node of the first datacentre dies without warning while runs are stored and judged. The second stands in, with
    verdicts of low quality. The node comes back: what the second took is in the first, every context is judged again with good
    quality, `verify` agrees, nothing is lost and nothing is left owed."""
    fab = DatacentresFab(binary, tmp_path / "fab", two, replication="dc1=1,dc2=1")
    try:
        fab.start()
        fab.run("charts use", charts)
        load = fab.spawn("simulate", "--direct", "--tools", TOOLS, "--sensors", 5, "--run-time", "60s", "--rate", RATE, "--runs",
                         RUNS, log="simulate.log")
        until(lambda: len(stored_ids(lambda cql: fab.cql_in(2, cql))) > 60, "the load to flow")
        two.kill(1)
        lost = time.monotonic()
        at_us = time.time() * 1e6
        until(lambda: fab.mode() == "standby", "the defender to go to the standby", 60, 0.05)
        to_standby = time.monotonic() - lost

        def judged_meanwhile():
            rows = fab.cql_in(2, "SELECT context_id, end_us, judged_us FROM KEYSPACE.u_charts")
            return sorted((judged_us, name) for name, _, judged_us in rows if judged_us > at_us + 1e6)

        first = until(judged_meanwhile, "a verdict at the standby", 60, 0.2)[0]
        figures.add("2 datacentres", "dc1 killed", "to the standby (s)", f"{to_standby:.1f}", "300", "15")
        figures.add("2 datacentres", "dc1 killed", "first verdict there (s)", f"{(first[0] - at_us) / 1e6:.1f}")
        time.sleep(AWAY_S)
        meanwhile = judged_meanwhile()
        assert len(meanwhile) > RATE * AWAY_S / 4, "hardly anything was judged meanwhile"
        assert fab.qualities(2, meanwhile[-1][1]) == {"low"}
        assert load.poll() is None, "the load ended before the datacentre was back"
        two.start()
        back = time.monotonic()
        until(lambda: fab.mode() == "primary", "the defender to go back to the primary", 120, 0.05)
        to_primary = time.monotonic() - back
        assert load.wait(120) == 0
        fab.wait()
        whole = time.monotonic() - back
        assert fab.debts() == (0, 0)
        fab.consistency = ALL
        states = {name: state for name, state in fab.states().items() if name != "probe"}
        assert len(states) == CHAMBERS * RUNS
        assert set(states.values()) == {"judged"}
        fab.consistency = 1
        assert fab.judged_ids() == sorted(states)  # as the first datacentre alone has them
        assert fab.nats().stream("dc-dead").state.messages == 0
        assert fab.qualities(1, meanwhile[-1][1]) == {"good"}
        verified = fab.json("verify", "--strict")
        assert verified["passed"] and verified["degraded"] == 0
        assert verified["verified"] == len(states)
        figures.add("2 datacentres", "dc1 killed", "back to the primary (s)", f"{to_primary:.1f}")
        figures.add("2 datacentres", "dc1 killed", "everything judged again (s)", f"{whole:.1f}")
        figures.add("2 datacentres", "dc1 killed", "contexts judged at the standby", len(meanwhile))
        figures.add("2 datacentres", "dc1 killed", "lost", 0, "0", "0")
    finally:
        fab.close()
