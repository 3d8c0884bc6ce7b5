"""A cluster of many defenders as real processes, contexts that flow through it all the while, and what is measured: from
outside, by an independent client that reads the consumers of the stream and hears what the defenders decide."""

import asyncio
import collections
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import threading
import time

from fab import Fab, find_nats_server, free_port, until
from natsclient import NatsClient

SENSORS = 5
SAMPLES = 60
STOCK_S = 4  # so many seconds' worth of contexts lie in the store before they are announced
POLL_S = 0.05


class Flow:
    """Contexts announced at a steady rate by a program of another kind, as a collector does it: stored first, announced
    until the stream has acknowledged."""

    def __init__(self, cluster, chambers, rate):
        self._cluster = cluster
        self._chambers = chambers
        self.rate = rate
        self._next = 0
        self._stock = collections.deque()
        self._client = NatsClient(cluster.url)
        self.announced = {}  # context: when, in wall seconds; once the stream has it
        self._sending = 0
        self._going = threading.Event()
        self._stopped = None
        self._stocker = None

    def _store(self, count):
        """Stores the next contexts and takes their announcements from the store's outbox."""
        tool = self._cluster.binary_dir / "bench/pipeline/load"
        done = subprocess.run([tool, "--dir", self._cluster.dir, "--store-only", "--contexts", str(count), "--first",
                               str(self._next), "--chambers", str(self._chambers), "--sensors", str(SENSORS), "--samples",
                               str(SAMPLES)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        names = [f"bench-{number:07d}" for number in range(self._next, self._next + count)]
        self._next += count
        self._stock.extend(self._cluster.sql(
            "SELECT context_id, tool, chamber, announcement FROM contexts WHERE context_id BETWEEN ? AND ?"
            " ORDER BY context_id", names[0], names[-1]))

    def announce_each_chamber(self):
        """One context of every chamber, as fast as it goes."""
        self._store(self._chambers)
        self._client.run(self._send_all())

    def start(self):
        if self._going.is_set():
            return self
        self._store(int(self.rate * STOCK_S))
        self._going.set()
        self._stocker = threading.Thread(target=self._keep_stocked, daemon=True)
        self._stocker.start()
        self._stopped = self._client.begin(self._announce())
        return self

    def stop(self):
        """Ends the flow; returns when everything that was begun is in the stream."""
        if self._going.is_set():
            self._going.clear()
            self._stocker.join()
            self._stopped.result(timeout=60)
            self._client.run(self._send_all())  # nothing that is stored stays behind

    def close(self):
        with contextlib.suppress(Exception):
            self.stop()
        self._client.close()

    def longest_wait_s(self, since_s):
        """The longest time between a context's announcement and its verdict, of those announced since."""
        judged = dict(self._cluster.sql("SELECT context_id, judged_us FROM u_charts"))
        return max((judged[name] / 1e6 - at for name, at in self.announced.items() if at >= since_s), default=0.0)

    def _keep_stocked(self):
        while self._going.is_set():
            if len(self._stock) < self.rate * STOCK_S:
                self._store(int(self.rate))
            else:
                time.sleep(0.05)

    async def _announce(self):
        begin = time.monotonic()
        sent = 0
        tasks = set()
        while self._going.is_set():
            await asyncio.sleep(max(0.0, begin + sent / self.rate - time.monotonic()))
            if not self._stock:
                begin += 0.01
                await asyncio.sleep(0.01)
                continue
            task = asyncio.ensure_future(self._send(self._stock.popleft()))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            sent += 1
        await asyncio.gather(*tasks)

    async def _send_all(self):
        while self._stock:
            batch = [self._stock.popleft() for _ in range(min(200, len(self._stock)))]
            await asyncio.gather(*map(self._send, batch))

    async def _send(self, entry):
        name, tool, chamber, announcement = entry
        subject = f"{self._cluster.prefix}dc.{tool}.{chamber}.completed"
        at = time.time()
        while not await self._client.offer(subject, announcement.encode(), name):
            await asyncio.sleep(0.2)
        self.announced[name] = at


class Event:
    def __init__(self, who, what):
        self.at = time.monotonic()
        self.who = who
        self.what = what


class Cluster(Fab):
    """Defenders one by one, or under `up`; cells and NATS clusters too."""

    def __init__(self, binary, directory, cell="", port=None):
        super().__init__(binary, directory)
        self.binary_dir = pathlib.Path(binary).parent
        self.cell = cell
        self.prefix = f"{cell}." if cell else ""
        self.stream = f"{cell}-dc-notifications" if cell else "dc-notifications"
        if port:
            self.port = port
            self.url = f"nats://127.0.0.1:{port}"
        self.members = {}  # process id: Popen
        self.options = ()
        self.events = []
        self._seats = 0
        self._observer = None
        self.flow = None

    # --- beginning ---

    def prepare(self, chambers, rate):
        """Charts in force, streams there; nothing runs."""
        charts = self.dir / "charts.yaml"
        self.dir.mkdir(parents=True, exist_ok=True)
        subprocess.run([self.binary_dir / "bench/pipeline/load", "--charts", charts, "--sensors", str(SENSORS)], check=True)
        self.put_charts(charts)
        self.chambers = chambers
        self._rate = rate

    def begin_flow(self):
        """Contexts are announced from now on, until assert_whole."""
        self.make_flow().start()
        return time.time()

    def make_flow(self):
        if self.flow is None:
            self.flow = Flow(self, self.chambers, self._rate)
        return self.flow

    def write_cluster_file(self):
        (self.dir / "cluster.json").write_text(json.dumps(
            {"nats": self.url, "store": self.store_url, "cell": self.cell, "children": {}}))

    def observe(self):
        """Hears every decision of every defender from now on."""
        self._observer = self.nats()
        self._observer.subscribe(f"{self.prefix}cluster.events", self._on_event)
        return self._observer

    def try_observe(self):
        """The observer, once JetStream answers; a NATS cluster takes a moment to find its leader."""
        try:
            client = self._observer or self.observe()
            return client if client.jetstream_answers() else None
        except OSError:
            return None

    def _on_event(self, data):
        told = json.loads(data)
        event = Event(told["id"], told["what"])
        self.events.append(event)

    # --- processes ---

    def start_member(self, *options):
        """One more defender process on a seat of its own."""
        self._seats += 1
        cell = ("--cell", self.cell) if self.cell else ()
        process = self._start([self.binary, "defend", "--seat", str(self.dir / f"seat-{self._seats}"), "--nats", self.url,
                               "--store", self.store_url, "--compute-threads", "1", "--sweep-age", "1h", *cell,
                               *map(str, options or self.options)], f"member-{self._seats}.log")
        self.members[process.pid] = process
        return process

    def start_members(self, count, *options):
        return [self.start_member(*options) for _ in range(count)]

    def end(self, processes, number):
        for process in processes:
            process.send_signal(number)
        at = time.monotonic()
        for process in processes:
            del self.members[process.pid]
        return at

    def state(self, process):
        return (self._observer.ask(f"{self.prefix}cluster.ask.pid-{process.pid}") or {}).get("state", "")

    def id_of(self, process):
        return self._observer.ask(f"{self.prefix}cluster.ask.pid-{process.pid}")["id"]

    def ids(self):
        """ID of each living process."""
        asked = self._observer.ask_all([f"{self.prefix}cluster.ask.pid-{pid}" for pid in self.members])
        return {answer["id"]: self.members[answer["pid"]] for answer in asked if answer and answer["state"] in
                ("LEADER", "FOLLOWER")}

    def leader(self):
        return next((member["id"] for member in self.status()["members"] if member["leads"]), None)

    def leader_process(self):
        ids = self.ids()
        return until(lambda: ids.get(self.leader()), "a leader")

    def followers(self):
        leader = self.leader()
        return [process for name, process in sorted(self.ids().items()) if name != leader]

    # --- who owns what, as the server sees it ---

    def filters(self):
        """Consumer: the chambers its filters name."""
        begin, end = len(f"{self.prefix}dc."), -len(".completed")
        return {consumer.name: [subject[begin:end] for subject in consumer.config.filter_subjects or
                                [consumer.config.filter_subject]]
                for consumer in self._observer.consumers(self.stream)}

    def owners(self):
        """Chamber: the consumer that has it."""
        return {chamber: name for name, chambers in self.filters().items() for chamber in chambers}

    def is_shared_by(self, names):
        """Each chamber is in exactly one consumer's filters, and the consumers are those of `names`."""
        filters = self.filters()
        owned = [chamber for chambers in filters.values() for chamber in chambers]
        return set(filters) == set(names) and len(owned) == self.chambers == len(set(owned))

    def time_until_shared(self, since, names, patience_s=90):
        """Seconds from `since` until `names`, a list or a function that gives one, own every chamber."""
        def shared():
            wanted = names() if callable(names) else names
            return wanted and self.is_shared_by(wanted)
        until(shared, f"{self.chambers} chambers to be owned again\n{self.story(since)}", patience_s, POLL_S)
        return time.monotonic() - since

    def time_until(self, since, words, patience_s=60):
        """Seconds from `since` until somebody decides something with `words`."""
        def heard():
            return next((event for event in list(self.events) if event.at >= since and words in event.what), None)
        return until(heard, f"somebody to say '{words}'\n{self.story(since)}", patience_s).at - since

    def said(self, words, since):
        return [event.what for event in list(self.events) if event.at >= since and words in event.what]

    def story(self, since):
        return "\n".join(f"[{event.at - since:7.3f}] {event.who} {event.what}" for event in self.events
                         if event.at >= since)

    def bring_to(self, count):
        """As many members as a scenario begins with, all chambers owned, nothing under way."""
        for pid, process in list(self.members.items()):
            if process.poll() is not None:
                del self.members[pid]
        begin = time.monotonic()
        if len(self.members) > count:
            self.end(self.followers()[count - len(self.members):], signal.SIGTERM)
        else:
            self.start_members(count - len(self.members))
        until(lambda: len(self.ids()) == count and self.is_shared_by(self.ids()),
              lambda: f"{count} members\n{self.story(begin)}", 90, 0.2)
        self.wait_until_settled()

    def wait_until_settled(self):
        """Until every member has in force what the map says."""
        def settled():
            members = self.status()["members"]
            header = self.map()
            assigned = {member["id"]: member["assigned"] for member in header["members"]}
            return (len(members) == len(assigned) and
                    all(assigned.get(member["id"]) == member["assignment"] for member in members) and
                    any(member["leads"] and member["lifecycle"] == "STABLE" for member in members))
        until(settled, "the assignment to be in force", 60, 0.2)

    def map(self):
        return self.json("assignments")

    # --- what must hold after anything ---

    def assert_whole(self):
        """Every published context judged, none twice, stream empty, `verify` clean; each chamber in exactly one consumer's
        filters, and the map agrees with them."""
        self.flow.stop()
        self.wait()
        self.wait_for_empty_stream()
        self.wait_until_settled()
        judged = self.judged_ids()
        assert len(judged) == len(set(judged)), "a context has two verdicts"
        missing = set(self.flow.announced) - set(judged)
        assert not missing, f"{len(missing)} of {len(self.flow.announced)} were announced and not judged: {sorted(missing)[:5]}"
        assert self.sql("SELECT count(*) FROM contexts WHERE state <> 'judged'")[0][0] == 0
        filters = self.filters()
        owned = sorted(chamber for chambers in filters.values() for chamber in chambers)
        assert len(owned) == len(set(owned)), "a chamber is in the filters of two"
        assert len(owned) == self.chambers
        members = self.json("assignments", "--chambers")["members"]
        mapped = {member["id"]: sorted(chamber.replace(":", ".") for chamber in member["chambers"]) for member in members}
        assert {name: chambers for name, chambers in mapped.items() if chambers} == \
               {name: sorted(chambers) for name, chambers in filters.items()}
        self.assert_verified()

    def close(self):
        if self.flow:
            self.flow.close()
        for process in list(self.members.values()):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in list(self.members.values()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
        super().close()


class NatsCluster:
    """Three nats-servers with routes on this machine."""

    def __init__(self, fab, size=3):
        self._fab = fab
        self.ports = [free_port() for _ in range(size)]
        self._routes = [free_port() for _ in range(size)]
        self.url = ",".join(f"nats://127.0.0.1:{port}" for port in self.ports)
        self.servers = {}

    def start(self):
        for number in range(len(self.ports)):
            self.start_server(f"n{number}")

    def start_server(self, name):
        number = int(name[1:])
        folder = self._fab.dir
        folder.mkdir(parents=True, exist_ok=True)
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in self._routes)
        config = folder / f"{name}.conf"
        config.write_text(f'listen: 127.0.0.1:{self.ports[number]}\nserver_name: {name}\n'
                          f'jetstream {{ store_dir: "{folder}/{name}", sync_interval: always }}\n'
                          f'cluster {{ name: fab, listen: 127.0.0.1:{self._routes[number]}, routes: [{routes}] }}\n')
        self.servers[name] = self._fab._start([find_nats_server(), "-c", str(config)], f"{name}.log")

    def url_of(self, name):
        return f"nats://127.0.0.1:{self.ports[int(name[1:])]}"

    def kill(self, name):
        process = self.servers.pop(name)
        process.kill()
        process.wait()
        return time.monotonic()


class Figures:
    """What scenarios measured, beside what is required and the goal; printed when all is over."""

    def __init__(self):
        self.rows = []

    def add(self, size, scenario, what, value, required="", goal=""):
        self.rows.append((size, scenario, what, value, required, goal))
        print(f"{scenario}: {what} {value} (required {required or '-'}, goal {goal or '-'})")

    def table(self):
        head = ("cluster", "scenario", "figure", "measured", "required", "goal")
        rows = [head, *self.rows]
        widths = [max(len(str(row[column])) for row in rows) for column in range(len(head))]
        return ["  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def children_of_up(cluster):
    """Process ids of the defenders under `up`."""
    return {name: pid for name, pid in cluster.children().items() if name.startswith("defender-")}


def kill_quietly(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
