"""NATS behind TLS in both directions and credentials from files: the main job works with them, and without the right ones
nobody gets in, is told why, and tells no secret."""

import json

import nkeys
import pytest

from fab import find_nats_server, until
from secure import Identity, SecureFiles, make_authority
from traces import CHARTS, write_runs


@pytest.fixture
def secure(fab, tmp_path, monkeypatch):
    """A guarded nats-server; the environment names the files that open it."""
    files = SecureFiles(tmp_path / "keys")
    fab.dir.mkdir()
    config = fab.dir / "nats.conf"
    config.write_text(f'listen: 127.0.0.1:{fab.port}\njetstream {{ store_dir: "{fab.dir}/nats", sync_interval: always }}\n'
                      + files.tls + files.authentication)
    fab.server = fab._start([find_nats_server(), "-c", str(config)], "nats-server.log")
    fab.url = f"tls://127.0.0.1:{fab.port}"
    (fab.dir / "cluster.json").write_text(json.dumps({"nats": fab.url, "store": fab.store_url, "cell": "", "children": {}}))
    until(fab.server_greets, "nats-server")
    for name, value in files.environment().items():
        monkeypatch.setenv(name, value)
    return files


def start_defender(fab, name):
    return fab._start([fab.binary, "defend", "--seat", str(fab.dir / "defender.seat"), "--expected", "1", "--nats", fab.url,
                       "--store", fab.store_url], name)


def at_work(fab):
    status = fab.run("status", "--json", ok=False)
    return status.returncode == 0 and [m["state"] for m in json.loads(status.stdout)["members"]] in (["LEADER"], ["STABLE"])


def secrets(files):
    seed = files.credentials.read_text().split("SEED-----\n")[1].split("\n")[0]
    key = (files.folder / "client.key").read_text().split("\n")[1]
    return [seed, key]


def test_the_main_job_behind_tls_and_credentials(fab, secure, tmp_path):
    charts = tmp_path / "charts.yaml"
    charts.write_text(CHARTS)
    defender = start_defender(fab, "defender-0.log")
    until(lambda: at_work(fab), lambda: f"the defender\n{fab.log('defender-0.log')}")
    fab.run("charts use", charts)
    names = write_runs(tmp_path / "runs", chambers=3, runs=8)
    fab.run("import", tmp_path / "runs")
    fab.wait()
    fab.assert_all_judged(names)
    fab.assert_verified()
    with open(f"/proc/{defender.pid}/cmdline", "rb") as file:
        told = file.read().decode() + (fab.dir / "defender-0.log").read_text()
    assert not [secret for secret in secrets(secure) if secret in told]


@pytest.mark.parametrize("variable, wrong, told", [
    ("CHAMBERLAIN_NATS_CREDENTIALS", "a stranger's", "refuses the credentials"),
    ("CHAMBERLAIN_NATS_CREDENTIALS", "absent", "credentials for NATS cannot be read"),
    ("CHAMBERLAIN_NATS_CA", "another authority", "signed by the authority of"),
    ("CHAMBERLAIN_NATS_CERTIFICATE", "absent", "client certificate for NATS cannot be read")])
def test_the_wrong_files_open_nothing_and_are_named(fab, secure, monkeypatch, variable, wrong, told):
    if wrong == "a stranger's":
        path = secure.make_credentials("stranger.creds", Identity(nkeys.PREFIX_BYTE_ACCOUNT))
    elif wrong == "another authority":
        make_authority(secure.folder, "other")
        path = secure.folder / "other.crt"
    else:
        path = secure.folder / "no-such-file"
    monkeypatch.setenv(variable, str(path))
    done = fab.run("assignments", ok=False, timeout=60)
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert told in said and str(path) in said
    assert not [secret for secret in secrets(secure) if secret in said]
