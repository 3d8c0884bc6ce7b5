"""Alarms to sinks: real notifiers, a real nats-server, a webhook that misbehaves, the real Alertmanager."""

import collections
import hashlib
import hmac
import http.server
import json
import os
import shutil
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest
from nats.js.api import StreamConfig

from fab import free_port, until

SECRET = b"correct horse battery staple"


class Webhook:
    """Receives messages, checks each signature, and does what `mood` says: a list of answers to come ("ok", a status,
    "hang", "keep": takes the message and hangs), then "ok" for ever."""

    def __init__(self, port=None):
        self.port = port or free_port()
        self.mood = collections.deque()
        self.taken = []  # (key, message), each time one was taken
        self.attempts = 0
        self.faults = []
        self.released = threading.Event()
        self._server = None
        self.open()

    def open(self, tls=None):
        webhook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):  # noqa: N802
                webhook.answer(self)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_):
                pass  # a client that was killed

        self._server = Server(("127.0.0.1", self.port), Handler)
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def check(self, request, body):
        parts = dict(part.split("=", 1) for part in request.headers["Chamberlain-Signature"].split(","))
        wanted = hmac.new(SECRET, parts["t"].encode() + b"." + body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(wanted, parts["v1"]):
            self.faults.append("a wrong signature")
        if abs(int(parts["t"]) - time.time()) > 60:
            self.faults.append("an old signature")
        message = json.loads(body)
        if request.headers["Idempotency-Key"] != message["key"]:
            self.faults.append("the key in the header is another")
        if sum(entry["count"] for entry in message["alarms"]) != message["count"]:
            self.faults.append("the counts do not add up")
        return message

    def answer(self, request):
        body = request.rfile.read(int(request.headers["Content-Length"]))
        message = self.check(request, body)
        self.attempts += 1
        mood = self.mood.popleft() if self.mood else "ok"
        if mood in ("ok", "keep"):
            self.taken.append((message["key"], message))
        if mood in ("hang", "keep"):
            self.released.wait(20)
            return
        status = 200 if mood == "ok" else mood
        request.send_response(status)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def by_key(self):
        """Every message, once a key: what a receiver that minds the key has. The same key is the same message."""
        messages = {}
        for key, message in self.taken:
            assert messages.setdefault(key, message) == message
        return messages

    def told(self):
        """How often each alarm was listed, by its context."""
        return collections.Counter(entry["alarm"]["context_id"] for message in self.by_key().values()
                                   for entry in message["alarms"])


def alarm(number, severity="critical", tool="E1", chamber="PM1", chart="pressure"):
    context = f"w{number}"
    name = hashlib.sha256(f"{tool}{chamber}{context}{chart}".encode()).hexdigest()[:16]
    return {"alarm_id": name, "severity": severity, "context_id": context, "tool_id": tool, "chamber_id": chamber,
            "recipe": "R1", "lot": "L1", "wafer": "7", "ended_at": "2026-01-01T00:00:00Z", "chart": chart,
            "rule": "limits", "rule_text": "beyond a control limit", "value": 12.5, "centre": 10.0, "lower": 8.0,
            "upper": 12.0, "unit": "mTorr", "quality": "good",
            "raised_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


class Alarms:
    """A nats-server with the alarms stream, and notifiers on it."""

    def __init__(self, fab, tmp_path):
        self.fab = fab
        self.path = tmp_path
        self.fab.start_nats()
        self.client = fab.nats()
        for name in ("alarms", "dead"):
            stream = "dc-dead" if name == "dead" else name
            self.client.run(self.client._js.add_stream(StreamConfig(name=stream, subjects=[f"{name}.>"])))
        self.secret = tmp_path / "secret"
        self.secret.write_bytes(SECRET + b"\n")
        self.config = tmp_path / "notify.yaml"

    def configure(self, text):
        self.config.write_text(text)

    def webhook_to(self, webhook, more=""):
        self.configure(f"sinks:\n  - name: hook\n    type: webhook\n    url: http://127.0.0.1:{webhook.port}/hook\n"
                       f"    secret_file: {self.secret}\n    timeout: 500ms\n    group_by: [tool]\n    group_wait: 50ms\n"
                       f"    retry_first: 50ms\n    retry_most: 400ms\n    since: 1h\n    cool_down: 0\n{more}"
                       "routes:\n  - {sinks: [hook]}\n")

    def start(self, log="notify.log", **more):
        return self.fab._start([self.fab.binary, "notify", "--nats", self.fab.url, "--ack-wait", "1s", "--log-level", "debug",
                                str(self.config)], log, **more)

    def publish(self, *alarms):
        for each in alarms:
            self.client.publish(f"alarms.{each['severity']}.{each['tool_id']}.{each['chamber_id']}", each, each["alarm_id"])

    def waits(self, sink):
        """Alarms that the stream has not got an acknowledgement for."""
        info = self.client.consumer("alarms", f"notify-{sink}")
        return info.num_pending + info.num_ack_pending


@pytest.fixture
def alarms(fab, tmp_path):
    return Alarms(fab, tmp_path)


@pytest.fixture
def webhook():
    made = Webhook()
    yield made
    made.close()
    assert made.faults == []


def everything_told_once(alarms, webhook, count):
    until(lambda: len(webhook.told()) >= count, lambda: f"{count} alarms; {len(webhook.told())} came")
    until(lambda: alarms.waits("hook") == 0, "every alarm to be acknowledged")
    assert set(webhook.told().values()) == {1}


def test_a_webhook_that_fails_hangs_and_goes_away_gets_every_alarm_once(alarms, webhook):
    alarms.webhook_to(webhook)
    webhook.mood.extend([500, 503, "hang", 429])
    alarms.start()
    alarms.publish(*(alarm(i, tool=f"E{i % 4}") for i in range(40)))
    everything_told_once(alarms, webhook, 40)
    attempts = webhook.attempts

    webhook.close()  # down for a while
    alarms.publish(*(alarm(i, tool=f"E{i % 4}") for i in range(40, 60)))
    until(lambda: alarms.fab.log("notify.log").count("cannot be told") > 3, "some attempts in vain")
    webhook.open()
    everything_told_once(alarms, webhook, 60)
    assert webhook.attempts > attempts
    until(lambda: "takes messages again" in alarms.fab.log("notify.log"), "a word that the sink is back")
    assert SECRET.decode() not in alarms.fab.log("notify.log")

    alarms.publish(*(alarm(i, tool=f"E{i % 4}") for i in range(10)))  # within the stream's window: not even stored
    again = dict(alarm(3, tool="E3"), raised_at="2026-01-02T00:00:00Z")
    alarms.client.publish("alarms.critical.E3.PM1", again, "past-the-window")
    until(lambda: alarms.waits("hook") == 0, "the repetition to be passed over")
    assert len(webhook.told()) == 60 and set(webhook.told().values()) == {1}


def test_killed_in_mid_flight_nothing_is_lost_and_nothing_told_twice(alarms, webhook):
    """Two side by side: one works. It is killed while the webhook has the message and has not answered."""
    alarms.webhook_to(webhook)
    webhook.mood.extend(["ok", "keep"])
    first = alarms.start("notify.log")
    until(lambda: "at work" in alarms.fab.log("notify.log"), "the first to be at work")
    second = alarms.start("notify-2.log")
    until(lambda: "standing by" in alarms.fab.log("notify-2.log"), "the second to stand by")
    alarms.publish(*(alarm(i, tool=f"E{i % 3}") for i in range(20)))
    until(lambda: len(webhook.taken) == 2, "the message that is kept")
    kept = webhook.taken[1]
    alarms.fab.kill(first)
    until(lambda: webhook.taken.count(kept) == 2, "the same message again, from the second")
    everything_told_once(alarms, webhook, 20)

    webhook.mood.append("keep")
    alarms.publish(*(alarm(i, tool=f"E{i % 3}") for i in range(20, 40)))
    until(lambda: not webhook.mood, "another message that is kept")
    alarms.fab.kill(second)
    alarms.start("notify-3.log")
    everything_told_once(alarms, webhook, 40)
    assert len(webhook.taken) == len(webhook.by_key()) + 2


def test_nats_restarts_under_way(alarms, webhook):
    alarms.webhook_to(webhook)
    alarms.start()
    alarms.publish(*(alarm(i, tool=f"E{i % 4}") for i in range(30)))
    until(lambda: webhook.taken, "the first message")
    alarms.fab.kill(alarms.fab.server)
    time.sleep(1)
    alarms.fab.start_nats()
    until(alarms.client.jetstream_answers, "NATS to be back")
    alarms.publish(*(alarm(i, tool=f"E{i % 4}") for i in range(30, 50)))
    everything_told_once(alarms, webhook, 50)


def test_what_is_refused_becomes_a_dead_letter(alarms, webhook):
    alarms.webhook_to(webhook)
    webhook.mood.append(422)
    alarms.start()
    alarms.publish(alarm(1))
    until(lambda: alarms.client.stream("dc-dead").state.messages == 1, "the dead letter")
    letter = alarms.client.messages("dc-dead")[0]
    assert letter.subject == "dead.E1.PM1" and letter.headers["Chamberlain-Class"] == "refused"
    body = json.loads(letter.data)
    assert body["reason"].startswith("HTTP 422") and body["message"]["alarms"][0]["alarm"]["context_id"] == "w1"
    alarms.publish(alarm(2))
    until(lambda: webhook.taken, "the next message")
    until(lambda: alarms.waits("hook") == 0, "both to be acknowledged")


def test_repetitions_are_counted_and_the_unacknowledged_escalates(alarms, webhook):
    chief = Webhook()
    alarms.configure(
        f"sinks:\n  - {{name: hook, type: webhook, url: 'http://127.0.0.1:{webhook.port}', secret_file: {alarms.secret},"
        " group_by: [tool], group_wait: 100ms, cool_down: 3s}\n"
        f"  - {{name: chief, type: webhook, url: 'http://127.0.0.1:{chief.port}', secret_file: {alarms.secret},"
        " group_by: [tool], group_wait: 0, cool_down: 0}\n"
        "routes:\n  - {severity: critical, sinks: [hook], escalate: {after: 4s, to: [chief]}}\n")
    alarms.start()
    until(lambda: alarms.client.consumer_exists("alarms", "notify-chief"), "the consumers")
    until(lambda: alarms.client.consumer_exists("alarms", "notify-hook"), "the consumers")
    time.sleep(1.1)  # raised_at has whole seconds here
    alarms.publish(alarm(1), alarm(0, severity="warning"))
    until(lambda: len(webhook.taken) == 1, "the first alarm")
    alarms.publish(*(alarm(i) for i in range(2, 12)))
    done = alarms.fab.run("alarms ack", *(alarm(i)["alarm_id"] for i in range(1, 11)), "--by", "ann", "--comment", "seen")
    assert "10 alarms acknowledged by ann" in done.stdout
    time.sleep(1)
    assert len(webhook.taken) == 1  # it is cool
    until(lambda: len(webhook.taken) == 2, "the others as one")
    message = webhook.taken[1][1]
    assert message["count"] == 10 and len(message["alarms"]) == 1 and message["alarms"][0]["count"] == 10
    until(lambda: chief.taken, "the one that nobody has acknowledged")
    until(lambda: alarms.waits("chief") == 0, "the others to be settled")
    assert chief.told() == {"w11": 1}
    chief.close()


def test_a_file_is_rotated_and_the_terminal_shows(alarms, tmp_path):
    path = tmp_path / "alarms.jsonl"
    alarms.configure(f"sinks:\n  - {{name: log, type: file, path: {path}, rotate_size: 3000B, rotate_keep: 9, since: 1h}}\n"
                     "  - {name: screen, type: terminal, since: 1h, group_wait: 0}\n"
                     "routes:\n  - {sinks: [log, screen]}\n")
    path.write_text('{"key": "whole"}\n{"key": "cut off by a cra')
    process = alarms.start(stdout=subprocess.PIPE)
    for i in range(20):
        alarms.publish(alarm(i))
        time.sleep(0.02)
    until(lambda: alarms.waits("log") == 0 and alarms.waits("screen") == 0, "every alarm to be written")
    process.terminate()
    assert process.wait(10) == 0
    shown = process.stdout.read()
    lines = [json.loads(line) for file in tmp_path.glob("alarms.jsonl*") for line in file.read_text().splitlines()]
    assert len(list(tmp_path.glob("alarms.jsonl*"))) > 2
    written = [entry["alarm"]["context_id"] for line in lines for entry in line.get("alarms", [])]
    assert sorted(written) == sorted(f"w{i}" for i in range(20))
    assert {line["key"] for line in lines if "alarms" not in line} == {"whole"}
    assert shown.count("pressure 12.5 mTorr (limits 8 to 12)") == 20


def find_alertmanager():
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    for path in (f"{cache}/chamberlain/bin/prometheus-alertmanager", shutil.which("prometheus-alertmanager")):
        if path and os.access(path, os.X_OK):
            return path
    raise FileNotFoundError("no Alertmanager: run scripts/setup test")


def test_the_real_alertmanager_has_the_alarm(alarms, tmp_path):
    port = free_port()
    config = tmp_path / "alertmanager.yml"
    config.write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    alarms.configure(f"sinks:\n  - {{name: am, type: alertmanager, url: 'http://127.0.0.1:{port}', group_wait: 50ms, since: 1h,"
                     " retry_first: 50ms, retry_most: 500ms, resolve_after: 5min}\nroutes:\n  - {sinks: [am]}\n")
    alarms.start()
    alarms.publish(alarm(1), alarm(2, severity="warning", chart="flow"))
    until(lambda: "cannot be told" in alarms.fab.log("notify.log"), "an attempt before Alertmanager is there")
    alarms.fab._start([find_alertmanager(), f"--config.file={config}", f"--storage.path={tmp_path}/am",
                       f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="], "alertmanager.log")

    def alerts():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v2/alerts", timeout=2) as answer:
                return json.load(answer)
        except (urllib.error.URLError, OSError):
            return []

    until(lambda: len(alerts()) == 2, "both alerts")
    alert = next(a for a in alerts() if a["labels"]["chart"] == "pressure")
    assert alert["status"]["state"] == "active"
    assert alert["labels"] == {"alertname": "ChamberlainAlarm", "severity": "critical", "tool": "E1", "chamber": "PM1",
                               "chart": "pressure", "rule": "limits", "recipe": "R1"}
    assert alert["annotations"]["context"] == "w1"
    assert alert["annotations"]["summary"] == "E1:PM1 pressure is 12.5 mTorr (limits 8 to 12): beyond a control limit"
    until(lambda: alarms.waits("am") == 0, "both to be acknowledged")


def test_up_keeps_a_notifier_and_its_metrics_are_prometheus_text(fab, tmp_path):
    config, path = tmp_path / "notify.yaml", tmp_path / "alarms.jsonl"
    config.write_text(f"sinks:\n  - {{name: log, type: file, path: {path}, since: 1h}}\nroutes:\n  - {{sinks: [log]}}\n")
    fab.up("--notify", str(config), "--http-port", "0")
    client, first = fab.nats(), alarm(1)
    client.publish("alarms.critical.E1.PM1", first, first["alarm_id"])
    until(lambda: path.exists() and path.read_text().count("\n") == 1, "the first alarm")
    before = fab.children()["notify"]
    fab.kill_pid(before)
    until(lambda: fab.children()["notify"] not in (0, before), "the notifier to be started again")
    second = alarm(2)
    client.publish("alarms.critical.E1.PM1", second, second["alarm_id"])
    until(lambda: path.read_text().count("\n") == 2, "the second alarm")
    port = json.loads((fab.dir / "cluster.json").read_text())["http"]["notify"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        metrics = answer.read().decode()
    assert 'notify_alarms_told_total{sink="log"} 1' in metrics and "notify_active 1" in metrics
    promtool = shutil.which("promtool")
    if promtool:
        done = subprocess.run([promtool, "check", "metrics"], input=metrics, capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert fab.interrupt() == 0
    bad = fab.tool("up", "--dir", tmp_path / "other", "--notify", tmp_path / "absent.yaml")
    assert bad.returncode == 1 and "absent.yaml" in bad.stderr and not (tmp_path / "other").exists()


def test_a_certificate_that_is_not_trusted_is_not_told(alarms, webhook, tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                    "-keyout", key, "-out", certificate, "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
                   check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    webhook.close()
    webhook.open(context)
    alarms.webhook_to(webhook)
    alarms.configure(alarms.config.read_text().replace("http:", "https:"))
    process = alarms.start()
    alarms.publish(alarm(1))
    until(lambda: "cannot be told" in alarms.fab.log("notify.log"), "an attempt in vain")
    time.sleep(0.5)
    assert webhook.attempts == 0 and "certificate" in alarms.fab.log("notify.log")
    process.terminate()
    assert process.wait(10) == 0
    alarms.configure(alarms.config.read_text().replace("    group_by", f"    ca_file: {certificate}\n    group_by"))
    alarms.start()
    everything_told_once(alarms, webhook, 1)


def test_check_explains_each_mistake_at_its_line(fab, tmp_path):
    config = tmp_path / "notify.yaml"
    config.write_text("sinks:\n  - {name: a, type: webhook, url: 'https://u:p@host/'}\nroutes:\n  - {tool: '[', sinks: [b]}\n")
    done = fab.tool("notify", "check", config)
    assert done.returncode == 1
    assert f"{config}:2:" in done.stderr and "secrets go into a file" in done.stderr
    assert f"{config}:4:" in done.stderr and "no sink is called 'b'" in done.stderr
    config.write_text("sinks:\n  - {name: a, type: terminal}\nroutes:\n  - {severity: critical, sinks: [a]}\n")
    done = fab.tool("notify", "check", config)
    assert (done.returncode, done.stdout) == (0, "critical of *:*, chart *, recipe * -> a\n")
