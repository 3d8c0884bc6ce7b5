"""Prometheus and Alertmanager as real processes with the files of deploy/prometheus, in less time: every duration in them is
divided by the same number (docs/monitoring.md, "Trying it out"). Thresholds stay as they are."""

import contextlib
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import threading
import urllib.parse
import urllib.request

import yaml

from fab import free_port, until

UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
DURATION = r"(\d+)(ms|s|m|h|d)"


def find_program(name):
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = f"{cache}/chamberlain/bin/{name}"
    found = path if os.access(path, os.X_OK) else shutil.which(name)
    assert found, f"no {name}: run scripts/setup test"
    return found


def shorter(match, factor):
    return f"{max(1, int(match[1]) * UNITS_MS[match[2]] // factor)}ms"


def compress(text, factor):
    """The same file with every duration divided: `for:`, `interval:` and the like, `[5m]`, `offset 10m`."""
    text = re.sub(rf"(?<=: ){DURATION}$", lambda m: shorter(m, factor), text, flags=re.MULTILINE)
    text = re.sub(rf"(?<=\[){DURATION}(?=\])", lambda m: shorter(m, factor), text)
    return re.sub(rf"(?<=offset ){DURATION}", lambda m: shorter(m, factor), text)


class Pager:
    """The other end of Alertmanager's webhooks: what arrived, by receiver."""

    def __init__(self):
        self.told = []
        pager = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                pager.told += [(body["receiver"], alert["labels"]["alertname"], alert["status"]) for alert in body["alerts"]]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class Monitoring:
    """Both, over the targets in one file."""

    def __init__(self, deploy, directory, targets_file, factor):
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True)
        self.pager = Pager()
        self._processes = []
        source = pathlib.Path(deploy)
        self.url = f"http://127.0.0.1:{free_port()}"
        self.alertmanager_url = f"http://127.0.0.1:{free_port()}"
        (self.dir / "rules").mkdir()
        for file in (source / "rules").glob("*.yml"):
            (self.dir / "rules" / file.name).write_text(compress(file.read_text(), factor))
        config = yaml.safe_load(compress((source / "prometheus.yml").read_text(), factor))
        config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [self.alertmanager_url.removeprefix("http://")]
        config["scrape_configs"][0]["file_sd_configs"][0]["files"] = [str(targets_file)]
        (self.dir / "prometheus.yml").write_text(yaml.safe_dump(config))
        config = yaml.safe_load(compress((source / "alertmanager.yml").read_text(), factor))
        for receiver in config["receivers"]:
            for webhook in receiver.get("webhook_configs", []):
                webhook["url"] = self.pager.url
                del webhook["http_config"]
        (self.dir / "alertmanager.yml").write_text(yaml.safe_dump(config))

    def start(self):
        self._start(find_program("prometheus-alertmanager"), "--config.file", self.dir / "alertmanager.yml", "--storage.path",
                    self.dir / "alertmanager", "--web.listen-address", self.alertmanager_url.removeprefix("http://"),
                    "--cluster.listen-address=")
        self._start(find_program("prometheus"), "--config.file", self.dir / "prometheus.yml", "--storage.tsdb.path",
                    self.dir / "tsdb", "--storage.tsdb.retention.time=7d", "--web.listen-address",
                    self.url.removeprefix("http://"), "--log.level=warn")
        for url in (self.url, self.alertmanager_url):
            until(lambda: self._is_ready(url), f"{url}\n{self.log()}", 30)
        return self

    def _start(self, program, *arguments):
        with open(self.dir / f"{pathlib.Path(program).name}.log", "w") as log:
            self._processes.append(subprocess.Popen([program, *map(str, arguments)], stdout=log, stderr=log,
                                                    stdin=subprocess.DEVNULL))

    def _is_ready(self, url):
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"{url}/-/ready", timeout=2).status == 200
        return False

    def log(self):
        return "\n".join(file.read_text()[-2000:] for file in self.dir.glob("*.log"))

    def get(self, path, **parameters):
        url = f"{self.url}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, expression):
        """The instant vector as (labels, value)."""
        return [(sample["metric"], float(sample["value"][1])) for sample in self.get("/api/v1/query", query=expression)["result"]]

    def firing(self):
        """What Alertmanager has: name of the alert -> names of its receivers."""
        with urllib.request.urlopen(f"{self.alertmanager_url}/api/v2/alerts", timeout=10) as answer:
            return {alert["labels"]["alertname"]: [receiver["name"] for receiver in alert["receivers"]]
                    for alert in json.load(answer) if alert["status"]["state"] == "active"}

    def close(self):
        for process in self._processes:
            process.kill()
            process.wait()
        self.pager.close()
