"""Cassandra nodes on loopback, by scripts/cassandra, and a fab whose store is there. What is stored is read past the product,
by a client of Cassandra's protocol that is small enough to be read."""

import os
import pathlib
import signal
import socket
import struct
import subprocess

from fab import Fab, process_is_there, until

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts/cassandra"

# Opcodes and types of Cassandra's native protocol, version 4.
ERROR, STARTUP, QUERY, ROWS = 0x00, 0x01, 0x07, 2
ONE, ALL = 1, 5
BIGINT, BLOB, BOOLEAN, COUNTER, INT, VARCHAR = 0x02, 0x03, 0x04, 0x05, 0x09, 0x0D
DECODE = {BIGINT: lambda b: int.from_bytes(b, "big", signed=True), COUNTER: lambda b: int.from_bytes(b, "big", signed=True),
          INT: lambda b: int.from_bytes(b, "big", signed=True), BOOLEAN: lambda b: b != b"\0", VARCHAR: bytes.decode,
          BLOB: bytes}


class Cql:
    """One connection, one statement at a time."""

    def __init__(self, host, port, timeout_s=30):
        self._socket = socket.create_connection((host, port), timeout=timeout_s)
        self._call(STARTUP, struct.pack(">H", 1) + self._text("CQL_VERSION") + self._text("3.0.0"))

    def __call__(self, statement, consistency=ONE):
        """Runs it; a list of rows (tuples) for a SELECT of plain columns."""
        text = statement.encode()
        body = self._call(QUERY, struct.pack(">i", len(text)) + text + struct.pack(">HB", consistency, 0))
        return self._rows(body) if struct.unpack(">i", body[:4])[0] == ROWS else []

    def close(self):
        self._socket.close()

    @staticmethod
    def _text(text):
        return struct.pack(">H", len(text)) + text.encode()

    def _take(self, count):
        taken = b""
        while len(taken) < count:
            more = self._socket.recv(count - len(taken))
            if not more:
                raise ConnectionError("Cassandra hung up")
            taken += more
        return taken

    def _call(self, opcode, body):
        self._socket.sendall(struct.pack(">BBhBi", 4, 0, 0, opcode, len(body)) + body)
        *_, answer, length = struct.unpack(">BBhBi", self._take(9))
        body = self._take(length)
        if answer == ERROR:
            size = struct.unpack(">H", body[4:6])[0]
            raise RuntimeError(body[6:6 + size].decode())
        return body

    @staticmethod
    def _rows(body):
        at = 4

        def number(form, size):
            nonlocal at
            at += size
            return struct.unpack(form, body[at - size:at])[0]

        def text():
            nonlocal at
            size = number(">H", 2)
            at += size
            return body[at - size:at].decode()

        flags, columns = number(">i", 4), number(">i", 4)
        assert flags == 1, "more than one page, or columns of several tables"
        text(), text()
        types = []
        for _ in range(columns):
            text()
            types.append(number(">H", 2))
        rows = []
        for _ in range(number(">i", 4)):
            row = []
            for kind in types:
                size = number(">i", 4)
                at += max(size, 0)
                row.append(DECODE[kind](body[at - size:at]) if size >= 0 else None)
            rows.append(tuple(row))
        return rows


class Nodes:
    """One, three, or two datacentres of one node each (kind "1", "3", "2dc") under a folder."""

    def __init__(self, directory, kind="1"):
        self.dir = pathlib.Path(directory)
        self.kind = kind

    def _script(self, what, *arguments):
        done = subprocess.run([SCRIPT, what, self.dir, *arguments], capture_output=True, text=True, timeout=300,
                              env=os.environ | {"CASSANDRA_PORT": "0"})
        assert done.returncode == 0, f"{done.args}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self):
        """Starts those that do not run."""
        self._script("start", self.kind)
        return self

    def stop(self):
        if self.dir.exists():
            self._script("stop")

    @property
    def hosts(self):
        """As it stands in a store's address: HOST,HOST:PORT."""
        return self._script("hosts").strip()

    @property
    def port(self):
        return int(self.hosts.rsplit(":", 1)[1])

    def pid(self, number=1):
        return int((self.dir / f"node{number}/pid").read_text())

    def address(self, number=1):
        return (self.dir / f"node{number}/address").read_text().strip()

    def kill(self, number=1):
        """Without warning; returns when the process is gone."""
        pid = self.pid(number)
        os.kill(pid, signal.SIGKILL)
        until(lambda: not process_is_there(pid), "a killed node to be gone")

    def memory_mb(self, number=1):
        for line in pathlib.Path(f"/proc/{self.pid(number)}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) // 1024
        return 0

    def cql(self, number=1):
        return Cql(self.address(number), self.port)

    def url(self, keyspace):
        return f"cassandra:{self.hosts}/{keyspace}"


class CassandraFab(Fab):
    """A fab whose store is a keyspace of Cassandra, made here."""

    def __init__(self, binary, directory, nodes, replication="1"):
        super().__init__(binary, directory)
        self.nodes = nodes
        self.keyspace = f"fab_{os.urandom(4).hex()}"
        self.consistency = ONE  # of what is read past the product
        self._url = nodes.url(self.keyspace)
        done = self.tool("store", "init", "--store", self._url, "--replication", replication)
        assert done.returncode == 0, done.stderr

    @property
    def store_url(self):
        return self._url

    def put_charts(self, file):
        """Puts a chart file in force before anything else runs."""
        self.up("--store", self.store_url, "--charts", str(file))
        assert self.interrupt() == 0

    def cql(self, statement):
        client = self.nodes.cql()
        try:
            return client(statement.replace("KEYSPACE", self.keyspace), self.consistency)
        finally:
            client.close()

    def judged_ids(self):
        return stored_ids(self.cql)

    def ucharts(self):
        return stored_ucharts(self.cql)

    def states(self):
        """By context: judged, dead, or pending."""
        rows = self.cql("SELECT context_id, judged_end_us, dead_reason FROM KEYSPACE.contexts")
        return {row[0]: "judged" if row[1] is not None else "dead" if row[2] is not None else "pending" for row in rows}

    def assert_all_judged(self, names, dead=()):
        """Every one of `names` has one verdict, and nothing waits any more. (A row of the outbox may be left over by a call that
        was cut short; the next listing passes it over and deletes it.)"""
        assert self.judged_ids() == sorted(names)
        assert self.states() == {name: "judged" for name in names} | {name: "dead" for name in dead}
        assert self.status()["messages_waiting"] == 0


def stored_ids(cql):
    return sorted(row[0] for row in cql("SELECT context_id FROM KEYSPACE.u_charts"))


def stored_ucharts(cql):
    """The bytes of every verdict, by context, as Fab.ucharts gives them."""
    rows = cql("SELECT context_id, chart_set, points, verdicts, alarm_count, severity FROM KEYSPACE.u_charts")
    return {row[0]: row[1:] for row in rows}


def ports_of(directory):
    """What scripts/cassandra has noted under a folder."""
    return dict(line.split("=") for line in (pathlib.Path(directory) / "settings").read_text().split())
