"""Several Cassandra nodes as real processes: one is killed under load and nobody above the store sees it; clients that must show
who they are. Run by `make test-cluster`, which prints what is measured."""

import re
import shutil
import subprocess
import time

import pytest

from cassandra import ALL, CassandraFab, Nodes
from fab import Fab, until
from secure import make_authority, make_certificate
from traces import write_runs

pytestmark = pytest.mark.cluster_cassandra

TOOLS, CHAMBERS, RATE, RUNS, DEFENDERS = 10, 20, 20, 25, 3  # 500 contexts in 25 s
AWAY_S = 8


@pytest.fixture(scope="module")
def three(tmp_path_factory, figures):
    nodes = Nodes(tmp_path_factory.mktemp("three"), "3")
    begin = time.monotonic()
    nodes.start()
    figures.add("3 nodes", "start", "seconds", f"{time.monotonic() - begin:.1f}")
    figures.add("3 nodes", "start", "memory of a node (MB)", max(map(nodes.memory_mb, (1, 2, 3))))
    yield nodes
    nodes.stop()


@pytest.mark.parametrize("consistency", ["LOCAL_QUORUM", "LOCAL_ONE"])
def test_a_node_killed_under_load_is_not_seen_above_the_store(three, binary, tmp_path, charts, figures, monkeypatch, consistency):
    """Three copies, three nodes, runs stored and judged all the while. A node dies without warning, is away, and comes back:
    no call of the store fails (nobody tries again), nothing is lost, every stored verdict is what a recomputation gives.
    LOCAL_ONE reads what another process has just written from a replica that may not have it yet: there, trying again is part
    of the bargain, and is counted."""
    monkeypatch.setenv("CHAMBERLAIN_CASSANDRA_CONSISTENCY", consistency)
    fab = CassandraFab(binary, tmp_path / "fab", three, replication="3")
    try:
        fab.up("--store", fab.store_url, "--charts", str(charts), "--defenders", str(DEFENDERS), "--sweep-age", "10s")
        load = fab.spawn("simulate", "--direct", "--tools", TOOLS, "--sensors", 10, "--run-time", "60s", "--rate", RATE,
                         "--runs", RUNS, log="simulate.log")
        until(lambda: len(fab.judged_ids()) > 80, "the load to flow")
        at = time.time()
        three.kill(2)
        time.sleep(AWAY_S)
        assert load.poll() is None, "the load ended before the node was back"
        begin = time.monotonic()
        three.start()
        figures.add(consistency, "a node of 3 killed", "back after (s)", f"{time.monotonic() - begin:.1f}")
        assert load.wait(120) == 0
        fab.wait()
        members = fab.status()["members"]
        retried = sum(member["counts"]["retried"] for member in members)
        until(lambda: everyone_answers(fab), "all three nodes to be counted in")
        fab.consistency = ALL
        names = sorted(fab.states())
        assert len(names) == CHAMBERS * RUNS
        fab.assert_all_judged(names)
        assert fab.nats().stream("dc-dead").state.messages == 0
        fab.assert_verified()
        moments = sorted(row[0] for row in fab.cql("SELECT judged_us FROM KEYSPACE.u_charts"))
        gaps = [later - earlier for earlier, later in zip(moments, moments[1:]) if later / 1e6 > at]
        figures.add(consistency, "a node of 3 killed", "longest time without a verdict (s)", f"{max(gaps) / 1e6:.2f}", "no downtime")
        figures.add(consistency, "a node of 3 killed", f"tried again, of {CHAMBERS * RUNS}", retried, "", 0)
        assert max(gaps) / 1e6 < 5
        if consistency == "LOCAL_QUORUM":
            assert retried == 0, fab.log("defender-0.log")
            assert "trying again" not in fab.log("simulate.log")
    finally:
        fab.close()


def everyone_answers(fab):
    """A read that needs every copy."""
    client = fab.nodes.cql()
    try:
        client(f"SELECT context_id FROM {fab.keyspace}.u_charts", ALL)
        return True
    except RuntimeError:
        return False
    finally:
        client.close()


def test_the_store_keeps_its_contract_on_three_nodes(three, binary, tmp_path, figures, monkeypatch):
    """The contract's test, unchanged, with a quorum of three copies."""
    monkeypatch.setenv("CHAMBERLAIN_CASSANDRA_CONSISTENCY", "LOCAL_QUORUM")
    fab = CassandraFab(binary, tmp_path / "fab", three, replication="3")
    monkeypatch.setenv("STORE_TEST_URL", fab.store_url)
    done = subprocess.run([binary.parent / "tests/unit/test_store_contract"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    figures.add("LOCAL_QUORUM", "store contract on 3 nodes", "cases", len(re.findall(r"\[       OK \]", done.stdout + done.stderr)))


SECURE = """\
authenticator: PasswordAuthenticator
client_encryption_options:
  enabled: true
  optional: false
  keystore: {folder}/server.p12
  keystore_password: secret
  store_type: PKCS12
  require_client_auth: true
  truststore: {folder}/trust.p12
  truststore_password: secret
"""


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    """A node that lets in only who has a certificate of its authority and the password. (Nodes, folder of the certificates.)"""
    keytool = shutil.which("keytool")
    assert keytool, "no keytool: it comes with Java (openjdk-17-jre-headless)"
    folder = tmp_path_factory.mktemp("certificates")
    for authority in ("authority", "stranger"):
        make_authority(folder, authority)
    for name in ("server", "client"):
        make_certificate(folder, name)
    for command in (["openssl", "pkcs12", "-export", "-in", "server.crt", "-inkey", "server.key", "-out", "server.p12", "-passout",
                     "pass:secret"],
                    [keytool, "-importcert", "-noprompt", "-alias", "authority", "-file", "authority.crt", "-keystore", "trust.p12",
                     "-storetype", "PKCS12", "-storepass", "secret"]):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    nodes = Nodes(tmp_path_factory.mktemp("secure"))
    (nodes.dir / "extra.yaml").write_text(SECURE.format(folder=folder))
    nodes.start()
    yield nodes, folder
    nodes.stop()


def test_tls_and_credentials_come_from_files(secure, binary, tmp_path, charts, monkeypatch):
    """Without them, or with wrong ones, it is said what is wrong; with them a fab works as it does without."""
    nodes, folder = secure
    url = nodes.url("chamberlain")
    (folder / "user").write_text("cassandra\ncassandra\n")
    (folder / "wrong").write_text("cassandra\nguessed\n")
    right = {"CREDENTIALS": folder / "user", "TLS_CA": folder / "authority.crt", "TLS_CERT": folder / "client.crt",
             "TLS_KEY": folder / "client.key"}
    fab = Fab(binary, tmp_path / "fab")

    def init(**files):
        for name in right:
            monkeypatch.delenv(f"CHAMBERLAIN_CASSANDRA_{name}", raising=False)
        for name, path in files.items():
            monkeypatch.setenv(f"CHAMBERLAIN_CASSANDRA_{name}", str(path))
        return fab.tool("store", "init", "--store", url, "--replication", "1")

    until(lambda: init(**right).returncode == 0, "the node to have its first user", 30, 0.5)
    said = {}
    for case, files in {"no certificate": {"CREDENTIALS": right["CREDENTIALS"], "TLS_CA": right["TLS_CA"]},
                        "another's authority": right | {"TLS_CA": folder / "stranger.crt"},
                        "wrong password": right | {"CREDENTIALS": folder / "wrong"},
                        "no password": {name: path for name, path in right.items() if name != "CREDENTIALS"},
                        "no such file": right | {"TLS_KEY": folder / "none"},
                        "no TLS": {"CREDENTIALS": right["CREDENTIALS"]}}.items():
        done = init(**files)
        assert done.returncode == 1, case
        said[case] = done.stderr
        print(f"{case}: {done.stderr.strip().splitlines()[-1]}")
        assert "guessed" not in done.stderr
    assert "certificate" in said["another's authority"].lower()
    assert "password are incorrect" in said["wrong password"]
    assert "CHAMBERLAIN_CASSANDRA_TLS_KEY" in said["no such file"]

    assert init(**right).returncode == 0
    names = write_runs(tmp_path / "runs", chambers=4, runs=3)
    try:
        fab.up("--store", url, "--charts", str(charts))
        assert fab.json("import", tmp_path / "runs")["announced"] == len(names)
        fab.wait()
        assert fab.status()["contexts"]["judged"] == len(names)
        fab.assert_verified()
    finally:
        fab.close()
