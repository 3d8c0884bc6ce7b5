"""A fab on this machine: nats-server and defenders as real processes, either under `chamberlain up` or one by one, for
tests that decide themselves what dies and what comes back."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import sqlite3
import subprocess
import time

from natsclient import NatsClient

PATIENCE_S = 60  # for anything that should take a second or two: a slow machine is no failure


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(condition, what, patience_s=PATIENCE_S, pause_s=0.02):
    """Waits for `condition()` to give something true, and returns it. `what` is a text, or a function that makes one."""
    end = time.monotonic() + patience_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"waited {patience_s} s for {what() if callable(what) else what}"
        time.sleep(pause_s)


def process_is_there(pid):
    """True while it runs; a zombie is none."""
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def find_nats_server():
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    for path in (os.environ.get("CHAMBERLAIN_NATS_SERVER"), f"{cache}/chamberlain/bin/nats-server",
                 shutil.which("nats-server")):
        if path and os.access(path, os.X_OK):
            return path
    raise FileNotFoundError("no nats-server: run scripts/setup test")


AT_WORK = ("LEADER", "FOLLOWER")


class Fab:
    def __init__(self, binary, directory):
        self.binary = str(binary)
        self.dir = pathlib.Path(directory)
        self.store = self.dir / "store.db"
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self.supervisor = None
        self.server = None
        self.defender = None
        self.defender_options = ()
        self._started = []  # every process of ours, for the end
        self._clients = []

    @property
    def store_url(self):
        return f"sqlite:{self.store}"

    # --- under `chamberlain up` ---

    def up(self, *options):
        """Starts `chamberlain up` and returns when it says that it is ready."""
        self.supervisor = self._start([self.binary, "up", "--dir", str(self.dir), "--nats-port", str(self.port), *options],
                                      "up.log", stdout=subprocess.PIPE)
        line = self.supervisor.stdout.readline()
        assert line == "ready\n", f"`up` said {line!r}\n{self.log('up.log')}"

    def children(self):
        """Name and process id of what `up` runs."""
        return json.loads((self.dir / "cluster.json").read_text())["children"]

    @staticmethod
    def kill_pid(pid):
        os.kill(pid, signal.SIGKILL)

    def wait_for_children_other_than(self, before):
        """Until every child of `up` runs again under another process id, and the defender is ready."""
        def renewed():
            now = self.children()
            status = self.run("status", "--json", ok=False)
            if status.returncode or any(now[name] in (0, before[name]) for name in before):
                return False
            members = json.loads(status.stdout)["members"]
            return members and members[0]["pid"] == now["defender-0"] and members[0]["state"] in AT_WORK
        until(renewed, "the children to be started again")

    def interrupt(self, patience_s=35):
        """Ctrl-C in the terminal of `up`; its exit status."""
        os.killpg(self.supervisor.pid, signal.SIGINT)
        return self.supervisor.wait(patience_s)

    def put_charts(self, file):
        """Puts a chart file in force before anything else runs."""
        self.up("--charts", str(file))
        assert self.interrupt() == 0

    # --- one by one ---

    def start_nats(self):
        """Starts nats-server and waits until it greets."""
        self.dir.mkdir(exist_ok=True)
        config = self.dir / "nats.conf"
        config.write_text(f'listen: 127.0.0.1:{self.port}\n'
                          f'jetstream {{ store_dir: "{self.dir}/nats", sync_interval: always }}\n')
        self.server = self._start([find_nats_server(), "-c", str(config)], "nats-server.log")
        until(self.server_greets, "nats-server")
        (self.dir / "cluster.json").write_text(json.dumps(
            {"nats": self.url, "store": self.store_url, "cell": "", "children": {}}))

    def server_greets(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                return connection.recv(5) == b"INFO "
        except OSError:
            return False

    def start_defender(self, *options, ready=True):
        self.defender_options = options or self.defender_options
        self.defender = self._start([self.binary, "defend", "--seat", str(self.dir / "defender.seat"), "--expected", "1", "--nats", self.url, "--store",
                                     self.store_url, *self.defender_options], "defender-0.log")
        if ready:
            client = self.nats()
            until(lambda: self._is_stable(client), "the defender to be STABLE")

    def _is_stable(self, client):
        member = client.ask("cluster.ask.defender-0") or {}
        return member.get("pid") == self.defender.pid and member["state"] in AT_WORK

    def start(self, *options):
        """nats-server and a defender."""
        self.start_nats()
        self.start_defender(*options)

    @staticmethod
    def kill(process, number=signal.SIGKILL):
        process.send_signal(number)
        return process.wait(40)

    def _start(self, command, log, **more):
        self.dir.mkdir(exist_ok=True)
        with open(self.dir / log, "a") as sink:
            process = subprocess.Popen(command, stderr=sink, stdin=subprocess.DEVNULL, text=True, start_new_session=True,
                                       **({"stdout": sink} | more))
        self._started.append(process)
        return process

    def log(self, name):
        path = self.dir / name
        return path.read_text(errors="replace")[-6000:] if path.exists() else ""

    # --- commands and what they tell ---

    def run(self, command, *arguments, ok=True, timeout=120, text_in=None):
        """Runs a command ("wait", "charts use") on this fab. With `ok`, it must succeed."""
        done = self.tool(*command.split(), "--dir", self.dir, *arguments, timeout=timeout, text_in=text_in)
        if ok:
            assert done.returncode == 0, f"{done.args}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def tool(self, *arguments, timeout=120, text_in=None):
        """Runs the binary with nothing but these arguments."""
        return subprocess.run([self.binary, *map(str, arguments)], capture_output=True, text=True, timeout=timeout,
                              input=text_in)

    def spawn(self, command, *arguments, log):
        """Starts a command on this fab that stays (`import --watch`)."""
        return self._start([self.binary, command, "--dir", str(self.dir), *map(str, arguments)], log)

    def json(self, command, *arguments):
        return json.loads(self.run(command, *arguments, "--json").stdout)

    def status(self):
        return self.json("status")

    def wait(self):
        """Until everything announced has been judged."""
        self.run("wait", "--timeout", f"{PATIENCE_S}s")

    def take_announcements(self, *files):
        """Imports, and takes what import announced out of the stream again: (subject, message) by context, for a test
        that announces by itself. No defender may run."""
        self.run("import", *files)
        client = self.nats()
        taken = {json.loads(m.data)["context_id"]: (m.subject, m.data) for m in client.messages("dc-notifications")}
        client.purge("dc-notifications")
        return taken

    def wait_for_empty_stream(self):
        """Until every message is acknowledged; `wait` would wait for contexts that were never announced too."""
        until(lambda: self.status()["messages_waiting"] == 0, "the stream to be empty")

    def nats(self, url=None, **more):
        client = NatsClient(url or self.url, **more)
        self._clients.append(client)
        return client

    # --- the store, read past the product ---

    def sql(self, statement, *parameters):
        with contextlib.closing(sqlite3.connect(f"file:{self.store}?mode=ro", uri=True, timeout=10)) as store:
            return store.execute(statement, parameters).fetchall()

    def edit_store(self, statement, *parameters):
        """Writes into the file behind the product's back: damage."""
        with contextlib.closing(sqlite3.connect(self.store, timeout=10)) as store, store:
            changed = store.execute(statement, parameters).rowcount
        assert changed == 1, f"{changed} rows changed by {statement}"

    def judged_ids(self):
        return [row[0] for row in self.sql("SELECT context_id FROM u_charts ORDER BY context_id")]

    def ucharts(self):
        """The bytes of every verdict, by context."""
        return {row[0]: row[1:] for row in self.sql(
            "SELECT u.context_id, u.chart_set, u.points, v.verdicts, u.alarm_count, u.severity"
            " FROM u_charts u JOIN u_chart_verdicts v ON v.context_no = u.context_no")}

    def assert_all_judged(self, names, dead=()):
        """Every one of `names` has one verdict, and nothing is left over anywhere."""
        assert self.judged_ids() == sorted(names)
        assert self.sql("SELECT count(*) FROM u_chart_verdicts")[0][0] == len(names)
        states = dict(self.sql("SELECT context_id, state FROM contexts"))
        assert states == {name: "judged" for name in names} | {name: "dead" for name in dead}
        status = self.status()
        assert status["messages_waiting"] == 0
        assert status["contexts"]["judged"] == len(names)
        assert status["contexts"]["dead"] == len(dead)

    def assert_verified(self):
        """`verify` recomputes every stored verdict and finds the same bits."""
        self.run("verify")

    # --- the end ---

    def close(self):
        """Ends what was started here, whatever state it is in."""
        for client in self._clients:
            with contextlib.suppress(Exception):
                client.close()
        children = []
        if self.supervisor and self.supervisor.poll() is None:
            with contextlib.suppress(OSError, ValueError, KeyError):
                children = list(self.children().values())
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.supervisor.terminate()
                self.supervisor.wait(40)
        for process in reversed(self._started):
            if process.poll() is None:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()
        for pid in filter(process_is_there, children):
            os.kill(pid, signal.SIGKILL)
