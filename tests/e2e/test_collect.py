"""Collectors on real processes: what equipment publishes in any form becomes T-charts, bit by bit, whatever is killed on the
way; and what cannot become one has the outcome that docs/collect.md gives."""

import contextlib
import json
import random
import shutil
import signal
import sqlite3
import threading
import time

import paho.mqtt.client as mqtt
import pytest

from equipment import Run, xxh64
from fab import find_nats_server, free_port, until

QUICK = ("--flush", "500ms", "--ack-wait", "2s", "--gap-wait", "4s", "--silence", "6s")


class Collectors:
    """Collector processes on a fab."""

    def __init__(self, fab):
        self.fab = fab
        self.processes = []

    def start(self, *options):
        number = len(self.processes)
        process = self.fab._start([self.fab.binary, "collect", "--nats", self.fab.url, "--store", self.fab.store_url, *QUICK,
                                   *options], f"collector-{number}.log")
        self.processes.append(process)
        return process

    def status(self):
        until(self.fab.store.exists, "a collector to make the store")
        return self.fab.status()["collectors"]

    def wait_for(self, count):
        def at_work():
            found = [c for c in self.status() if c["state"] in ("LEADER", "FOLLOWER")]
            return found if len(found) == count else None
        return until(at_work, f"{count} collectors")

    def counts(self):
        total = {}
        for collector in self.status():
            for name, value in collector["counts"].items():
                total[name] = total.get(name, 0) + value
        return total


@pytest.fixture
def collectors(fab):
    return Collectors(fab)


def publish(client, run):
    for subject, body in run.messages():
        client.publish(subject, body)


def announcement(fab, run):
    found = fab.sql("SELECT announcement FROM contexts WHERE context_id = ? AND completed", run.id)
    return json.loads(found[0][0]) if found and found[0][0] else None


def stored_bits(fab, run, tmp_path):
    """The context's chunks, read past the product and dumped one by one."""
    chunks = fab.sql("SELECT k.bytes FROM t_chart_chunks k JOIN contexts c ON c.context_no = k.context_no"
                     " WHERE c.context_id = ? ORDER BY k.chunk_index", run.id)
    found = {}
    for (blob,) in chunks:
        path = tmp_path / "chunk.mebo"
        path.write_bytes(blob)
        for metric in json.loads(fab.tool("mebo", "dump", path).stdout)["metrics"]:
            times, values = found.setdefault(metric["name"], ([], []))
            times.extend(metric["timestamps"])
            values.extend(value.removeprefix("0x") for value in metric["values_hex"])
    return found


def wait_for_announcements(fab, runs, patience_s=60):
    def missing():
        return [run.id for run in runs if announcement(fab, run) is None]
    until(lambda: not missing(), lambda: f"{missing()} to be complete", patience_s, 0.2)


def expect_whole(fab, runs, tmp_path):
    for run in runs:
        told = announcement(fab, run)
        assert "quality" not in told, told
        assert told["batches"] == run.batches and told["batches_lost"] == 0
        assert told["point_count"] == run.batches * run.SAMPLES * 4 and told["svid_count"] == 4
        assert (told["tool_id"], told["chamber_id"], told["product"]) == (run.tool, run.chamber, "X")
        assert stored_bits(fab, run, tmp_path) == run.bits(), run.id


def samples_waiting(client):
    return client.stream("eqp-samples").state.messages


def test_the_hash_of_these_tests_is_xxhash64():
    """Against published values: a wrong one would be refused by the product, but not be told from a wrong product."""
    assert xxh64(b"") == 0xEF46DB3751D8E999
    assert xxh64(b"abc") == 0x44BC2CF5AD770999
    assert xxh64(b"Nobody inspects the spammish repetition") == 0xFBCEA83C8A378BF1


def weight_of(client, run):
    entries = [m for m in client.messages("KV_chambers") if m.subject == f"$KV.chambers.{run.subject.removeprefix('eqp.')}"]
    return json.loads(entries[-1].data)["weight"]


def test_json_and_binary_become_contexts_that_are_judged(fab, collectors, charts, tmp_path):
    """From a client to the verdict; the chambers come into the roster with the points of a run as their weight."""
    fab.put_charts(charts)
    fab.start()
    collectors.start()
    collectors.wait_for(1)
    client = fab.nats()
    runs = [Run("json-1", form="json"), Run("binary-1", "PM.1", "B b", form="binary"), Run("binary-2", "ETCH02", "A")]
    for run in runs:
        publish(client, run)
    wait_for_announcements(fab, runs)
    expect_whole(fab, runs, tmp_path)
    until(lambda: fab.status()["contexts"]["judged"] == 3, "three verdicts")
    fab.run("verify")
    until(lambda: samples_waiting(client) == 0, "every message to be acknowledged")
    assert weight_of(client, runs[1]) == 480
    counts = collectors.counts()
    assert counts["contexts"] == 3 and counts["batches"] == 36 and counts["batches_json"] == 12 and counts["dead"] == 0


def start_nats_with_mqtt(fab):
    """As Fab.start_nats, with an MQTT listener: what docs/collect.md tells operators to add."""
    port = free_port()
    fab.dir.mkdir(exist_ok=True)
    config = fab.dir / "nats.conf"
    config.write_text(f'listen: 127.0.0.1:{fab.port}\nserver_name: fab\n'
                      f'jetstream {{ store_dir: "{fab.dir}/nats", sync_interval: always }}\n'
                      f'mqtt {{ host: "127.0.0.1", port: {port} }}\n')
    fab.server = fab._start([find_nats_server(), "-c", str(config)], "nats-server.log")
    until(fab.server_greets, "nats-server")
    (fab.dir / "cluster.json").write_text(json.dumps({"nats": fab.url, "store": fab.store_url, "cell": "", "children": {}}))
    return port


def test_mqtt_equipment_is_heard(fab, collectors, tmp_path):
    port = start_nats_with_mqtt(fab)
    collectors.start()
    collectors.wait_for(1)
    run = Run("mqtt-1", "PM.1", "A", batches=8)
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="equipment-1", protocol=mqtt.MQTTv311)
    client.connect("127.0.0.1", port)
    client.loop_start()
    for subject, body in run.messages():
        client.publish(subject.replace(".", "/"), body, qos=1).wait_for_publish(20)
    client.disconnect()
    client.loop_stop()
    wait_for_announcements(fab, [run])
    expect_whole(fab, [run], tmp_path)


def test_a_cell_has_names_of_its_own(fab, collectors, tmp_path):
    """Stream, subjects, buckets: all with the cell's prefix, and what is announced too."""
    fab.start_nats()
    collectors.start("--cell", "west")
    client = fab.nats()
    until(lambda: client.ask("west.cluster.ask.collector-0"), "the collector to answer in its cell")
    run = Run("cell-1", "PM.1", batches=4)
    for subject, body in run.messages():
        client.publish(f"west.{subject}", body)
    wait_for_announcements(fab, [run])
    expect_whole(fab, [run], tmp_path)
    until(lambda: client.stream("west-eqp-samples").state.messages == 0, "every message to be acknowledged")
    assert [m.subject for m in client.messages("west-dc-notifications")] == ["west.dc.PM%2E1.A.completed"]
    assert not client.stream_exists("eqp-samples")


class Flow(threading.Thread):
    """Publishes runs side by side, batch by batch; offers again what was not acknowledged."""

    def __init__(self, fab, runs, pause_s):
        super().__init__(daemon=True)
        self.client = fab.nats()
        self.runs, self.pause_s = runs, pause_s
        self.resent = 0

    def _offer(self, subject, body, message_id):
        while not self.client.run(self.client.offer(subject, body, message_id)):
            self.resent += 1
            time.sleep(0.1)

    def run(self):
        streams = [list(run.messages()) for run in self.runs]
        for step in range(max(map(len, streams))):
            for run, messages in zip(self.runs, streams):
                if step < len(messages):
                    self._offer(*messages[step], f"{run.id}/{step}")
            time.sleep(self.pause_s)


def test_killed_collectors_and_a_killed_nats_server_lose_nothing(fab, collectors, charts, tmp_path):
    """Three collectors share twelve chambers; one is killed, then nats-server, then another, one joins: every trace is what
    was sent, bit by bit, and no message is left."""
    fab.put_charts(charts)
    fab.start()
    for _ in range(3):
        collectors.start("--expected", "3")
    collectors.wait_for(3)
    runs = [Run(f"k{i:02}", f"ETCH{i // 4}", "ABCD"[i % 4], batches=60, form="json" if i % 4 == 0 else "binary")
            for i in range(12)]
    flow = Flow(fab, runs, 0.15)
    flow.start()
    time.sleep(3)
    fab.kill(collectors.processes[0])
    time.sleep(3)
    fab.kill(fab.server)
    time.sleep(1)
    fab.start_nats()
    time.sleep(2)
    fab.kill(collectors.processes[1])
    collectors.start()
    flow.join(120)
    assert not flow.is_alive()
    wait_for_announcements(fab, runs, 90)
    expect_whole(fab, runs, tmp_path)
    assert any(fab.sql("SELECT chunk_count FROM contexts WHERE context_id = ?", run.id)[0][0] > 3 for run in runs)
    until(lambda: samples_waiting(flow.client) == 0, "every message to be acknowledged", 60, 0.2)
    until(lambda: fab.status()["contexts"]["judged"] == len(runs), "every context to be judged", 90, 0.2)
    fab.run("verify")
    assert flow.client.stream("eqp-dead").state.messages == 0


def test_a_stopped_collector_hands_over_in_mid_context(fab, collectors, tmp_path):
    """SIGTERM: what is held is stored and confirmed, the chambers go on to the other, and nothing is stored twice."""
    fab.start_nats()
    first = collectors.start("--expected", "2")
    collectors.start("--expected", "2")
    collectors.wait_for(2)
    runs = [Run(f"s{i}", "ETCH01", "ABCD"[i], batches=40) for i in range(4)]
    flow = Flow(fab, runs, 0.1)
    flow.start()
    time.sleep(2.5)
    assert fab.kill(first, signal.SIGTERM) == 0
    flow.join(60)
    wait_for_announcements(fab, runs)
    expect_whole(fab, runs, tmp_path)
    assert collectors.counts()["taken_over"] >= 1


def test_disorder_and_repetition_change_nothing(fab, collectors, tmp_path):
    fab.start_nats()
    collectors.start()
    collectors.wait_for(1)
    run = Run("mixed", batches=30)
    messages = list(run.messages())
    mixed = messages + random.Random(1).sample(messages, 12)
    random.Random(2).shuffle(mixed)
    client = fab.nats()
    for subject, body in mixed:
        client.publish(subject, body)
    wait_for_announcements(fab, [run])
    expect_whole(fab, [run], tmp_path)
    until(lambda: samples_waiting(client) == 0, "every message to be acknowledged")
    counts = collectors.counts()
    assert counts["duplicates"] == 12 and counts["out_of_order"] > 0


def graves(client):
    return sorted(message.headers["Chamberlain-Class"] for message in client.messages("eqp-dead"))


def test_what_cannot_be_used_has_its_outcome(fab, collectors, tmp_path):
    """Undecodable, without a start, with a gap, late, silent, superseded: each is dead-lettered or stored with its reason,
    and the message itself is in the dead letters, as it came."""
    fab.start_nats()
    collectors.start()
    collectors.wait_for(1)
    client = fab.nats()
    gap, silent, orphan = Run("gap", batches=6), Run("silent", "ETCH02", batches=3), Run("orphan", "ETCH03")
    older, newer = Run("older", "ETCH04", batches=4), Run("newer", "ETCH04", batches=2)
    for number, (subject, body) in enumerate(gap.messages()):
        if number != 3:
            client.publish(subject, body)
    for subject, body in list(silent.messages())[:-1]:
        client.publish(subject, body)
    client.publish(f"{orphan.subject}.data", orphan.data(0))
    client.publish(f"{orphan.subject}.data", b"CHB1 not much of a batch")
    client.publish(f"{orphan.subject}.pause", b"{}")
    for subject, body in list(older.messages())[:-1] + list(newer.messages()):
        client.publish(subject, body)
    wait_for_announcements(fab, [gap, silent, older, newer])
    assert announcement(fab, gap)["quality_reasons"] == ["gap: 1 of 6 batches never came"]
    assert stored_bits(fab, gap, tmp_path) == gap.bits(without={2})
    assert announcement(fab, silent)["quality_reasons"] == ["truncated: the tool fell silent"]
    assert stored_bits(fab, silent, tmp_path) == silent.bits()
    assert announcement(fab, older)["quality_reasons"] == ["truncated: the chamber began another context"]
    assert "quality" not in announcement(fab, newer)
    client.publish(f"{gap.subject}.data", gap.data(2))
    until(lambda: samples_waiting(client) == 0, "every message to be settled")
    expected = ["late", "no_start", "undecodable", "undecodable"]
    until(lambda: graves(client) == expected, lambda: f"{expected} in the graves, not {graves(client)}")
    late = [m for m in client.messages("eqp-dead") if m.headers["Chamberlain-Class"] == "late"][0]
    assert late.data == gap.data(2) and late.headers["Chamberlain-Subject"] == f"{gap.subject}.data"
    assert late.subject == "eqp-dead.ETCH01.A"


def test_a_store_that_is_away_only_delays(fab, collectors, tmp_path):
    """The store's file is locked for a while: batches stay in the stream, and nothing is lost."""
    fab.start_nats()
    collectors.start()
    collectors.wait_for(1)
    client = fab.nats()
    run = Run("slow-store", batches=20)
    messages = list(run.messages())
    with contextlib.closing(sqlite3.connect(fab.store, timeout=10, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for subject, body in messages:
            client.publish(subject, body)
        until(lambda: collectors.counts()["store_retries"] > 0, "the lock to be felt")
        assert samples_waiting(client) == len(messages)
        other.execute("ROLLBACK")
    wait_for_announcements(fab, [run])
    expect_whole(fab, [run], tmp_path)


def test_up_runs_collectors(fab, tmp_path):
    """`up --collectors 2`: they are listed apart from the defenders; one that is killed is started again."""
    fab.up("--collectors", "2")
    status = until(lambda: (lambda s: s if len(s["collectors"]) == 2 else None)(fab.status()), "two collectors")
    assert [c["id"] for c in status["collectors"]] == ["collector-0", "collector-1"]
    assert [m["id"] for m in status["members"]] == ["defender-0"]
    fab.kill_pid(fab.children()["collector-0"])
    run = Run("under-up", batches=5)
    publish(fab.nats(), run)
    wait_for_announcements(fab, [run])
    expect_whole(fab, [run], tmp_path)
    fab.wait()
    assert fab.interrupt() == 0


def test_a_broker_that_lost_its_disk_is_filled_again(fab, collectors, tmp_path):
    """nats-server comes back with an empty disk in mid-run: streams and buckets are made again; equipment that publishes the
    run anew gets its whole context, though a part was stored before."""
    fab.start_nats()
    collectors.start()
    collectors.wait_for(1)
    client = fab.nats()
    run = Run("lost-disk", batches=20)
    messages = list(run.messages())
    for subject, body in messages[:12]:
        client.publish(subject, body)
    until(lambda: collectors.counts()["chunks"] > 0, "a chunk to be stored")
    fab.kill(fab.server)
    shutil.rmtree(fab.dir / "nats")
    fab.start_nats()
    again = fab.nats()
    until(lambda: again.stream_exists("eqp-samples"), "the stream to be made again")
    for subject, body in messages:
        again.publish(subject, body)
    wait_for_announcements(fab, [run])
    expect_whole(fab, [run], tmp_path)
    until(lambda: samples_waiting(again) == 0, "every message to be acknowledged")
