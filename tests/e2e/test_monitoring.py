"""deploy/prometheus and deploy/grafana, by the real Prometheus and Alertmanager: the files are right, each alert has a test
that fires it and one that does not, a slow store reaches the pager, and no panel of a dashboard is empty."""

import contextlib
import json
import re
import sqlite3
import subprocess
import threading
import time
import urllib.request

import pytest
import yaml

from cluster import Cluster, kill_quietly
from fab import free_port, until
from monitoring import Monitoring, compress, find_program

FACTOR = 30  # minutes are 2 s


@pytest.fixture(scope="module")
def deploy(pytestconfig):
    return pytestconfig.rootpath / "deploy"


def check(program, *arguments):
    done = subprocess.run([find_program(program), *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, f"{program} {arguments}\n{done.stdout}{done.stderr}"
    return done.stdout


def alert_rules(deploy):
    groups = yaml.safe_load((deploy / "prometheus/rules/alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


# --- the files ---

def test_the_configuration_is_valid(deploy):
    check("promtool", "check", "config", deploy / "prometheus/prometheus.yml")
    check("amtool", "check-config", deploy / "prometheus/alertmanager.yml")


def test_every_rule_test_passes(deploy):
    files = sorted((deploy / "prometheus/tests").glob("*.yml"))
    check("promtool", "test", "rules", *files)


def test_every_alert_has_a_test_that_fires_it_and_one_that_does_not(deploy):
    fires, quiet = set(), set()
    for file in (deploy / "prometheus/tests").glob("*.yml"):
        for case in yaml.safe_load(file.read_text())["tests"]:
            for test in case.get("alert_rule_test", []):
                (fires if test["exp_alerts"] else quiet).add(test["alertname"])
    assert fires == quiet == set(alert_rules(deploy))


def test_a_quiet_test_has_what_its_alert_looks_at(deploy):
    """No alert is quiet only because its series are not there."""
    recorded = {rule["record"]: rule["expr"] for group in
                yaml.safe_load((deploy / "prometheus/rules/recording.yml").read_text())["groups"] for rule in group["rules"]}
    rules = alert_rules(deploy)

    def metrics(expression):
        names = set(re.findall(r"(?<![\w:])(?:defender|notify|process|chamberlain_collector)_\w+|(?<![\w:])up\b", expression))
        for name in re.findall(r"\bchamberlain:[\w:]+", expression):
            names |= metrics(recorded[name])
        return names

    for file in (deploy / "prometheus/tests").glob("*.yml"):
        for case in yaml.safe_load(file.read_text())["tests"]:
            given = {line["series"].split("{")[0] for line in case["input_series"]}
            for test in case.get("alert_rule_test", []):
                rule = rules[test["alertname"]]
                if "absent" not in rule["expr"] and "defenders_available:count == 0" not in rule["expr"]:
                    assert metrics(rule["expr"]) <= given, f"{case['name']}: {metrics(rule['expr']) - given} are not given"


def test_what_was_promised_is_alerted_on(deploy):
    """The numbers and times of the requirements, in the rules."""
    rules = alert_rules(deploy)
    promised = {"ChamberlainScaleOut": ("> 5", "5m", "info"), "ChamberlainProcessTimeP95": ("> 7", "5m", "critical"),
                "ChamberlainProcessTimeP99": ("> 10", "2m", "warning"), "ChamberlainProcessTimeP50": ("> 5", "1m", "critical"),
                "ChamberlainCacheHitRate": ("< 0.9", "10m", "warning"), "ChamberlainRebalancesFrequent": ("> 2", None, "warning"),
                "ChamberlainDefendersUnavailable": ("< 0.95", "5m", "warning")}
    for name, (bound, lasting, severity) in promised.items():
        assert rules[name]["expr"].endswith(bound)
        assert rules[name].get("for") == lasting
        assert rules[name]["labels"]["severity"] == severity
    for name, rule in rules.items():
        assert rule["labels"]["severity"] in ("critical", "warning", "info"), name
        assert rule["annotations"]["summary"] and rule["annotations"]["action"], name


@pytest.mark.parametrize("severity, receiver", [("critical", "on-call"), ("warning", "ticket"), ("info", "shown")])
def test_severity_decides_who_hears_of_it(deploy, severity, receiver):
    file = deploy / "prometheus/alertmanager.yml"
    assert check("amtool", "config", "routes", "test", "--config.file", file, f"severity={severity}").strip() == receiver
    receivers = {entry["name"]: entry for entry in yaml.safe_load(file.read_text())["receivers"]}
    assert ("webhook_configs" in receivers[receiver]) == (severity != "info")


def test_compressed_rules_differ_in_their_times_only(deploy):
    text = (deploy / "prometheus/rules/alerts.yml").read_text()
    assert compress(text, 1) != text  # in milliseconds
    short, full = yaml.safe_load(compress(text, FACTOR)), yaml.safe_load(text)
    times = re.compile(r"\[\w+\]|offset \w+")
    for before, after in zip(full["groups"], short["groups"]):
        for rule, other in zip(before["rules"], after["rules"]):
            assert times.sub("", rule["expr"]) == times.sub("", other["expr"])
            assert {**rule, "for": 0, "expr": 0} == {**other, "for": 0, "expr": 0}
    assert yaml.safe_load(compress("for: 5m", 30)) == {"for": "10000ms"}


# --- a running one ---

class SlowStore:
    """Holds SQLite's write lock, as another program on the file would, and lets one writer in every `hold_s` seconds."""

    def __init__(self, file, hold_s):
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._hold, args=(file, hold_s), daemon=True)
        self._thread.start()

    def _hold(self, file, hold_s):
        with contextlib.closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as store:
            def commits():  # changes when another connection has committed
                return store.execute("PRAGMA data_version").fetchone()
            while not self._over.is_set():
                try:
                    store.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError:  # somebody writes; SQLite's own wait would let more of them in first
                    time.sleep(0.0002)
                    continue
                self._over.wait(hold_s)
                store.execute("ROLLBACK")
                before, end = commits(), time.monotonic() + hold_s
                while commits() == before and time.monotonic() < end:
                    time.sleep(0.0005)

    def stop(self):
        self._over.set()
        self._thread.join()


def kill_all(cluster):
    """Its defenders would go on for long with what the slow store has left."""
    if cluster.flow:
        cluster.flow.close()
        cluster.flow = None
    children = cluster.children()
    cluster.supervisor.kill()
    for pid in children.values():
        kill_quietly(pid)


def notify_config(directory):
    """One sink of alarms: a file."""
    config = directory / "notify.yaml"
    config.write_text(f"sinks:\n  - {{name: log, type: file, path: {directory}/alarms.jsonl}}\nroutes:\n  - {{sinks: [log]}}\n")
    return str(config)


@pytest.fixture(scope="module")
def watched(binary, deploy, tmp_path_factory):
    """Two defenders under watch, and contexts that flow; then the store becomes slow."""
    cluster = Cluster(binary, tmp_path_factory.mktemp("watched") / "fab")
    cluster.prepare(chambers=2, rate=40)
    cluster.up("--defenders", "2", "--compute-threads", "1", "--sweep-age", "1h", "--http-port", str(free_port()), "--notify",
               notify_config(cluster.dir))
    cluster.observe()
    targets = cluster.dir / "prometheus-targets.json"
    monitoring = Monitoring(deploy / "prometheus", cluster.dir / "monitoring", targets, FACTOR)
    with contextlib.ExitStack() as at_the_end:  # in reverse, and each whatever becomes of the others
        at_the_end.callback(monitoring.close)
        at_the_end.callback(cluster.close)
        at_the_end.callback(kill_all, cluster)
        monitoring.start()
        cluster.make_flow().announce_each_chamber()
        cluster.time_until_shared(time.monotonic(), ["defender-0", "defender-1"])
        cluster.flow._store(1000)
        yield cluster, monitoring


@pytest.fixture(scope="module")
def slow(watched):
    """When the store has become slow, in monotonic seconds; it stays so."""
    cluster, monitoring = watched
    until(lambda: monitoring.query("chamberlain:defenders_available:ratio == 1"), lambda: f"the first scrapes\n{monitoring.log()}", 20)
    assert not monitoring.firing()
    cluster.begin_flow()
    since = time.monotonic()
    store = SlowStore(cluster.store, hold_s=0.5)
    yield since
    store.stop()


def test_a_slow_store_reaches_the_pager(watched, slow, figures):
    """The times of the rules are a thirtieth; what is too slow is not."""
    _, monitoring = watched
    for name, receiver in (("ChamberlainProcessTimeP50", "on-call"), ("ChamberlainScaleOut", "shown"),
                           ("ChamberlainProcessTimeP95", "on-call"), ("ChamberlainProcessTimeP99", "ticket")):
        until(lambda: name in monitoring.firing(), lambda: f"{name}; there are {monitoring.firing()}, "
              f"p95 {monitoring.query('chamberlain:process_time_seconds:p95')}\n{monitoring.log()}", 45, 0.1)
        figures.add("2 x 2", "slow store, times / 30", f"{name} at Alertmanager", f"{time.monotonic() - slow:.1f} s")
        assert monitoring.firing()[name] == [receiver]
    until(lambda: ("on-call", "ChamberlainProcessTimeP95", "firing") in monitoring.pager.told, "the pager to be told", 15)
    until(lambda: ("ticket", "ChamberlainProcessTimeP99", "firing") in monitoring.pager.told, "a ticket", 15)
    assert not [told for told in monitoring.pager.told if told[1] == "ChamberlainScaleOut"], "info only shows"


# --- the dashboards ---

DASHBOARDS = ("cluster", "defender", "sla", "fab")


def expressions(dashboard):
    """Everything it asks Prometheus: (where, PromQL)."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield f"panel '{panel['title']}'", target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield f"annotation '{annotation['name']}'", annotation["expr"]


def test_the_dashboards_are_all_there_and_sound(deploy):
    files = {file.stem: json.loads(file.read_text()) for file in (deploy / "grafana/dashboards").glob("*.json")}
    assert set(files) == set(DASHBOARDS)
    assert len({dashboard["uid"] for dashboard in files.values()}) == len(files)
    for name, dashboard in files.items():
        panels = dashboard["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels), name
        taken = set()
        for panel in panels:
            place = panel["gridPos"]
            cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
            assert not cells & taken and place["x"] + place["w"] <= 24, f"{name}: '{panel['title']}' lies on another"
            taken |= cells
            assert panel["type"] == "row" or panel["targets"], f"{name}: '{panel['title']}'"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_no_panel_is_empty(watched, slow, deploy, name):
    cluster, monitoring = watched
    dashboard = json.loads((deploy / f"grafana/dashboards/{name}.json").read_text())
    until(lambda: monitoring.query('ALERTS{severity="critical",alertstate="firing"}'), "an alert", 60, 0.2)
    instance = monitoring.query("defender_stable_id")[0][0]["instance"]
    empty = []
    for where, expression in expressions(dashboard):
        asked = expression.replace("$__rate_interval", "1m").replace("$instance", instance)
        assert "$" not in asked, f"{where}: unknown variable in {expression}"
        if not [value for _, value in monitoring.query(asked) if value == value]:
            empty.append(f"{where}: {asked}")
    assert not empty, "\n".join(empty)


def told_by_every_role(fab, root):
    """Names of the samples on /metrics of a defender, the web server, a notifier and a collector."""
    port, collect = free_port(), free_port()
    fab.up("--http-port", str(port), "--notify", notify_config(root))
    fab._start([fab.binary, "collect", "--nats", fab.url, "--store", fab.store_url, "--http-port", str(collect)], "collect-9.log")
    targets = json.loads((fab.dir / "prometheus-targets.json").read_text())
    roles = {target["labels"]["role"]: target["targets"][0] for target in targets} | {"collect": f"127.0.0.1:{collect}"}
    assert set(roles) == {"defend", "web", "notify", "collect"}

    def read(address):
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
            return answer.read().decode()
        return ""

    names = set()
    for role, address in roles.items():
        text = until(lambda: read(address), f"{role} to tell its metrics", 30, 0.1)
        names |= set(re.findall(r"^(\w+)[ {]", text, re.MULTILINE))
    return names


def test_rules_and_dashboards_name_only_what_is_told(fab, deploy, tmp_path):
    """A metric that was renamed would never alert."""
    told = told_by_every_role(fab, tmp_path)
    expressions_ = [expression for file in (deploy / "grafana/dashboards").glob("*.json")
                    for _, expression in expressions(json.loads(file.read_text()))]
    for file in (deploy / "prometheus/rules").glob("*.yml"):
        expressions_ += [rule["expr"] for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]
    named = {name for expression in expressions_ for name in
             re.findall(r"(?<![\w:])(?:defender|cluster|collector|notify|web|process|http|chamberlain)_\w+(?![\w:]*:)", expression)}
    assert len(named) > 60
    assert not named - told, f"nobody tells {sorted(named - told)}"


@pytest.mark.parametrize("variable", ["instance"])
def test_the_choice_of_a_defender_is_not_empty(watched, slow, deploy, variable):
    dashboard = json.loads((deploy / "grafana/dashboards/defender.json").read_text())
    query = next(entry["query"]["query"] for entry in dashboard["templating"]["list"] if entry["name"] == variable)
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", query).groups()
    assert len(watched[1].get(f"/api/v1/label/{label}/values", **{"match[]": metric})) == 2
