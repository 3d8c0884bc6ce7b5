"""The store on a real Cassandra node: the same bits as on SQLite, and nothing lost when a defender or the node dies."""

import pathlib
import random
import time

from cassandra import Nodes, ports_of, stored_ids, stored_ucharts
from fab import process_is_there, until
from test_crashes import alarms_raised_once, kill_in_the_middle_of_work, prepared, publish_all
from traces import LAM_CHARTS, write_runs

SCHEMA = pathlib.Path(__file__).resolve().parents[2] / "deploy/cassandra/schema.cql"


def test_a_fab_on_a_cassandra_of_its_own_gives_the_same_bits_as_on_sqlite(make_fab, root, tmp_path):
    """The main job on `up --store cassandra` and on SQLite: import, judge, evaluate, verify. Every stored point and verdict is
    the same, byte by byte. The node is killed and is started again like any other child; SIGTERM ends it with the rest; the
    second `up` knows without being told where everything is."""
    (tmp_path / "lam.yaml").write_text(LAM_CHARTS)
    data, labels = root / "data/lam9600", root / "data/lam9600/runs.csv"
    names = sorted(row.split(",")[0] for row in labels.read_text().splitlines()[1:])
    sqlite, fab = make_fab("sqlite"), make_fab("cassandra")
    sqlite.up("--charts", str(tmp_path / "lam.yaml"))
    fab.up("--charts", str(tmp_path / "lam.yaml"), "--store", "cassandra")
    for each in (sqlite, fab):
        assert each.json("import", data)["announced"] == len(names)
        each.wait()
    node = Nodes(fab.dir / "cassandra")
    client = node.cql()
    def cql(statement):
        return client(statement.replace("KEYSPACE", "chamberlain"))
    assert stored_ids(cql) == names
    assert stored_ucharts(cql) == sqlite.ucharts()
    assert fab.json("evaluate", "--labels", labels) == sqlite.json("evaluate", "--labels", labels)
    fab.assert_verified()
    sqlite.interrupt()

    before = fab.children()
    assert set(before) >= {"nats-server", "cassandra", "defender-0"} and all(map(process_is_there, before.values()))
    fab.kill_pid(before["cassandra"])
    until(lambda: fab.children()["cassandra"] not in (0, before["cassandra"]), "Cassandra to be started again")
    client.close()
    told = fab.run("status", ok=False)
    assert told.returncode == 1 and "refused" in told.stderr  # what begins now does not wait
    until(lambda: fab.run("status", ok=False).returncode == 0, "Cassandra to answer again")
    assert fab.json("import", write_more(tmp_path))["announced"] == 12
    fab.wait()
    fab.assert_verified()
    children = fab.children()
    assert children["defender-0"] == before["defender-0"], "the defender died of it"
    assert fab.interrupt() == 0
    assert not any(map(process_is_there, children.values()))

    port = ports_of(fab.dir / "cassandra")["port"]
    fab.up()
    assert ports_of(fab.dir / "cassandra")["port"] == port
    assert fab.status()["contexts"] == {"announced": len(names) + 12, "judged": len(names) + 12, "dead": 0}
    assert fab.json("import", data)["existed"] == len(names)
    assert fab.interrupt() == 0


def write_more(tmp_path):
    write_runs(tmp_path / "more", chambers=4, runs=3)
    return tmp_path / "more"


def test_a_defender_killed_under_load_loses_and_doubles_nothing(cassandra_fab, tmp_path, charts):
    """As on SQLite: contexts announced by another program, the defender killed in the middle of its work."""
    fab = cassandra_fab
    chance = random.Random(seed := random.randrange(2**32))
    print(f"seed {seed}")
    names, announcements = prepared(fab, tmp_path, charts, chambers=20, runs=10)
    client = fab.nats()
    publish_all(client, announcements, names)
    kill_in_the_middle_of_work(fab, client, names, chance, kills=4, least=2)
    fab.start_defender()
    fab.wait()
    fab.assert_all_judged(names)
    assert client.stream("dc-dead").state.messages == 0
    assert alarms_raised_once(client)
    fab.assert_verified()


def test_the_node_killed_under_load_loses_nothing(cassandra_fab, cassandra, charts):
    """The only node dies while runs are stored, announced and judged, and is away for some seconds: who stores waits and says
    so, the defender waits, nothing is dead-lettered. When the node is back everything that was answered is there, the rest
    is done, and `verify` is clean."""
    fab = cassandra_fab
    fab.put_charts(charts)
    fab.start()
    load = fab.spawn("simulate", "--direct", "--tools", 10, "--sensors", 10, "--run-time", "60s", "--rate", 60, "--runs", 45,
                     log="simulate.log")
    until(lambda: len(fab.judged_ids()) > 100, "the load to flow")
    cassandra.kill()
    until(lambda: "trying again" in fab.log("simulate.log"), "the simulation to say that it waits")
    assert load.poll() is None
    cassandra.start()
    assert load.wait(60) == 0
    fab.wait()
    names = [row[0] for row in fab.cql("SELECT context_id FROM KEYSPACE.contexts")]
    assert len(names) == 10 * 2 * 45
    fab.assert_all_judged(names)
    assert fab.nats().stream("dc-dead").state.messages == 0
    fab.assert_verified()


def test_a_store_that_cannot_be_used_says_what_to_do(cassandra, cassandra_fab, tmp_path):
    """No keyspace, no tables, nobody there, a name that cannot be one: each is said at once, in words that help."""
    fab = cassandra_fab
    nobody = "cassandra:127.0.0.1:1/chamberlain"
    bare = f"bare_{fab.keyspace}"
    client = cassandra.cql()
    client(f"CREATE KEYSPACE {bare} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}")
    client.close()
    for url, words in ((cassandra.url("nowhere"), ("no keyspace nowhere", "store init")),
                       (cassandra.url(bare), ("not there", "store init")),
                       (nobody, ("127.0.0.1:1", "refused")),
                       ("cassandra:not.a.host.invalid/chamberlain", ("not.a.host.invalid",)),
                       ("cassandra:127.0.0.1:99999/chamberlain", ("port",)),
                       ("cassandra:127.0.0.1", ("HOST,HOST",)),
                       (cassandra.url("a-b"), ("KEYSPACE",))):
        begin = time.monotonic()
        done = fab.tool("up", "--dir", tmp_path / "up", "--store", url)
        assert done.returncode == 1, url
        assert all(word in done.stderr for word in words), (url, done.stderr)
        assert time.monotonic() - begin < 15, url
    for url, replication, words in ((cassandra.url("other"), "lots", "number of copies"), (nobody, "1", "refused")):
        done = fab.tool("store", "init", "--store", url, "--replication", replication)
        assert done.returncode == 1 and words in done.stderr, done.stderr
    done = fab.tool("store", "init", "--store", fab.store_url, "--replication", "1")
    assert done.returncode == 0 and "nothing to do" in done.stdout


def test_tables_of_version_1_are_brought_up_to_date_with_their_data(cassandra, cassandra_fab, tmp_path, charts):
    """A fab was run by the first version, and its tables are those that the first section of schema.cql makes. They are refused
    until `store init` has brought them up to date; then everything that was judged is still there, to the bit."""
    fab = cassandra_fab
    names = write_runs(tmp_path / "runs", chambers=4, runs=3)
    client = cassandra.cql()
    now = client(f"SELECT version FROM {fab.keyspace}.schema_version WHERE one = 1")[0][0]
    assert now > 1
    first = make_tables_of_version_1(client, f"first_{fab.keyspace}")
    fab.up("--store", fab.store_url, "--charts", str(charts))
    fab.run("import", tmp_path / "runs")
    fab.wait()
    assert fab.interrupt() == 0
    before = fab.ucharts()
    new = columns(client, fab.keyspace)
    assert new.keys() > first.keys()
    for table in new.keys() - first.keys():
        client(f"DROP TABLE {fab.keyspace}.{table}")
    client(f"INSERT INTO {fab.keyspace}.schema_version (one, version) VALUES (1, 1)")
    assert columns(client, fab.keyspace) == first

    refused = fab.tool("up", "--dir", fab.dir)
    assert refused.returncode == 1 and "of an older version" in refused.stderr and "store init" in refused.stderr
    done = fab.tool("store", "init", "--store", fab.store_url, "--replication", "1")
    assert done.returncode == 0 and f"ready, tables of version {now}" in done.stdout, done.stderr
    assert columns(client, fab.keyspace) == new
    fab.up()
    assert fab.ucharts() == before and sorted(before) == sorted(names)
    fab.assert_verified()
    assert fab.json("import", tmp_path / "runs")["existed"] == len(names)
    client.close()


def make_tables_of_version_1(client, keyspace):
    """By its section of schema.cql, as it stands there. Returns their columns."""
    client(f"CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}")
    section = SCHEMA.read_text().split("\n-- version 1\n")[1].split("\n-- version 2\n")[0]
    for statement in section.split(";\n"):
        text = "\n".join(line for line in statement.splitlines() if not line.startswith("--")).strip()
        if text:
            client(text.replace("CREATE TABLE IF NOT EXISTS ", f"CREATE TABLE {keyspace}."))
    return columns(client, keyspace)


def columns(client, keyspace):
    """By table: each column's name, kind, place in the key, and type."""
    found = {}
    for table, *column in client("SELECT table_name, column_name, kind, position, type FROM system_schema.columns"
                                 f" WHERE keyspace_name = '{keyspace}'"):
        found.setdefault(table, set()).add(tuple(column))
    return found
