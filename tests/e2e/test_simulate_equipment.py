"""`simulate` without --direct: what its equipment says on the samples' stream is, to the bit, what --direct stores."""

import collections
import datetime
import json
import signal
import struct
import subprocess
import time

import pytest

from fab import until

SMALL = ("--tools", 3, "--chambers-per-tool", 2, "--sensors", 6, "--run-time", "40s", "--recipes", 2, "--runs", 3, "--faults", "40%")


def make_stream(fab):
    """As a collector makes it."""
    client = fab.nats()
    client.make_stream("eqp-samples", "eqp.>")
    return client


def said(client):
    """The messages as (subject, body), in the stream's order."""
    return [(message.subject, message.data) for message in client.messages("eqp-samples")]


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def read_binary(data, sensors):
    """A binary batch as docs/collect.md describes it: id, number, {sensor: [(time, bits)]}."""
    assert data[:4] == b"CHB1"
    number, groups, length = struct.unpack_from("<IHB", data, 4)
    name, at, found = data[12:12 + length].decode(), 12 + length, {}
    for _ in range(groups):
        samples, at = varint(data, at)
        columns, at = varint(data, at)
        (first,), kind, at = struct.unpack_from("<q", data, at), data[at + 8], at + 9
        steps = []
        for _ in range(1 if kind == 1 else samples - 1):
            step, at = varint(data, at)
            steps.append(step)
        steps = steps * (samples - 1) if kind == 1 else steps
        times = [first + sum(steps[:i]) for i in range(samples)]
        sensor = -1
        for _ in range(columns):
            gap, at = varint(data, at)
            sensor += gap + 1
            kind, at = data[at], at + 1
            if kind < 3:
                count = samples if kind == 1 else 1
                values = list(struct.unpack_from(f"<{count}Q", data, at)) * (1 if kind == 1 else samples)
                at += 8 * count
            else:
                values, whole = [], 0
                for _ in range(samples):
                    zigzag, at = varint(data, at)
                    whole += (zigzag >> 1) ^ -(zigzag & 1)
                    values.append(bits(whole / 10 ** (kind - 3)))
            found[sensors[sensor]] = list(zip(times, values))
    assert at == len(data) - 8
    return name, number, found


def bits(value):
    return struct.unpack("<Q", struct.pack("<d", float("nan") if value is None else value))[0]


def read_json(data, _sensors):
    body = json.loads(data)
    found = {}
    for group in body.get("groups", [body]):
        for name, values in group["values"].items():
            times = group.get("times") or [micros(group["first"]) + i * group["interval_us"] for i in range(len(values))]
            found[name] = [(micros(at), bits(value)) for at, value in zip(times, values)]
    return body["context_id"], body["seq"], found


def micros(text):
    if isinstance(text, int):
        return text
    moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return round((moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)) / datetime.timedelta(microseconds=1))


def traces_said(messages):
    """context: (start, end, {sensor: [(time, bits)]}), after checking the order of what was said."""
    starts, ends, samples = {}, {}, collections.defaultdict(lambda: collections.defaultdict(list))
    batches = collections.Counter()
    for subject, data in messages:
        _, tool, chamber, kind = subject.split(".")
        if kind == "start":
            start = json.loads(data)
            starts[start["context_id"]] = start | {"tool": tool, "chamber": chamber}
        elif kind == "end":
            end = json.loads(data)
            assert end["batches"] == batches[end["context_id"]] > 1
            ends[end["context_id"]] = end
        else:
            name = next(name for name, start in starts.items() if name.encode() in data)
            read = read_binary if data[:3] == b"CHB" else read_json
            name, number, found = read(data, starts[name]["sensors"])
            assert (starts[name]["tool"], starts[name]["chamber"]) == (tool, chamber) and name not in ends
            assert number == batches[name]
            batches[name] += 1
            for sensor, values in found.items():
                samples[name][sensor] += values
    return {name: (start, ends[name], dict(samples[name])) for name, start in starts.items()}


def traces_stored(fab, tmp_path):
    found = {}
    for number, name, announcement in fab.sql("SELECT context_no, context_id, announcement FROM contexts"):
        columns = collections.defaultdict(list)
        for (blob,) in fab.sql("SELECT bytes FROM t_chart_chunks WHERE context_no = ? ORDER BY chunk_index", number):
            path = tmp_path / "blob"
            path.write_bytes(blob)
            dumped = json.loads(subprocess.run([fab.binary, "mebo", "dump", path], capture_output=True, check=True).stdout)
            for metric in dumped["metrics"]:
                columns[metric["name"]] += zip(metric["timestamps"], (int(value, 16) for value in metric["values_hex"]))
        found[name] = (json.loads(announcement), dict(columns))
    return found


@pytest.mark.parametrize("form", ["binary", "json"])
def test_equipment_says_what_direct_stores(fab, tmp_path, form):
    fab.start()  # no collector, which would take the messages
    direct = fab.json("simulate", "--direct", *SMALL, "--truth", tmp_path / "direct.csv")
    client = make_stream(fab)
    told = fab.json("simulate", *SMALL, "--form", form, "--batch", "7s", "--truth", tmp_path / "said.csv")
    assert told["published"] == direct["announced"] == 18 and told["faults"] == direct["faults"]
    assert (tmp_path / "said.csv").read_text() == (tmp_path / "direct.csv").read_text()
    messages = said(client)
    assert len(messages) == told["messages"]
    traces, stored = traces_said(messages), traces_stored(fab, tmp_path)
    assert set(traces) == set(stored)
    for name, (start, end, samples) in traces.items():
        announced, columns = stored[name]
        assert samples == columns, name
        assert {field: start[field] for field in ("recipe", "lot", "wafer", "maintenance", "runs_since_maintenance")} == {
            field: announced[field] for field in ("recipe", "lot", "wafer", "maintenance", "runs_since_maintenance")}
        assert (start["tool"], start["chamber"]) == (announced["tool_id"], announced["chamber_id"])
        assert (micros(start["started_at"]), micros(end["ended_at"])) == (
            micros(announced["started_at"]), micros(announced["ended_at"]))
    # The runs go on side by side, in the fab's time.
    times = [next(iter(read_binary(data, ["?"] * 99)[2].values()))[-1][0] for _, data in messages if data[:3] == b"CHB"]
    assert times == sorted(times)


def test_nothing_is_lost_while_the_stream_is_not_there(fab):
    fab.start()
    waiting = fab.spawn("simulate", *SMALL, log="simulate.log")
    while "is a collector running" not in fab.log("simulate.log"):
        assert waiting.poll() is None
    client = make_stream(fab)
    assert waiting.wait(30) == 0
    ends = collections.Counter(subject.rsplit(".", 1)[1] for subject, _ in said(client))
    assert ends["start"] == ends["end"] == 18


def test_time_is_compressed_and_ctrl_c_ends_what_has_begun(fab):
    fab.start()
    client = make_stream(fab)
    begin = time.monotonic()
    fab.json("simulate", *SMALL, "--speed", "100")  # 3 runs of about 45 s a period
    assert 0.8 < time.monotonic() - begin < 10
    client.purge("eqp-samples")
    endless = fab.spawn("simulate", *SMALL[:-4], "--runs", 100000, "--speed", 20, log="simulate.log")
    time.sleep(2)
    endless.send_signal(signal.SIGINT)
    assert endless.wait(20) == 1
    kinds = collections.Counter(subject.rsplit(".", 1)[1] for subject, _ in said(client))
    assert kinds["start"] == kinds["end"] > 0


@pytest.mark.parametrize("form", ["binary", "json"])
def test_a_collector_stores_what_direct_stores(make_fab, tmp_path, form):
    direct, collected = make_fab("direct"), make_fab("collected")
    for fab in (direct, collected):
        fab.up("--charts", charts_of(tmp_path))
    direct.run("simulate", "--direct", *SMALL)
    collected.run("simulate", *SMALL, "--form", form, "--batch", "5s")
    until(lambda: collected.status()["contexts"]["announced"] == 18, lambda: f"18 contexts: {collected.status()['contexts']}")
    for fab in (direct, collected):
        fab.wait()
    known, found = traces_stored(direct, tmp_path), traces_stored(collected, tmp_path)
    assert set(known) == set(found) and len(known) == 18
    for name, (announced, columns) in known.items():
        assert found[name][1] == columns, name
        same = announced.keys() - {"chunk_count", "point_count", "svid_count"}
        assert {field: found[name][0].get(field) for field in same} == {field: announced[field] for field in same}
    # The verdicts too: same values, same limits, bit by bit.
    assert direct.ucharts() == collected.ucharts()
    collected.assert_verified()


def charts_of(folder):
    path = folder / "charts.yaml"
    path.write_text("""\
charts:
  - {name: pressure, equation: mean(Pressure), limits: {method: shewhart, history: 10, min_history: 2}, rules: [limits]}
  - {name: power, equation: "max(RF_Fwd_Power, step 2)", limits: {method: shewhart, history: 10, min_history: 2}, rules: [limits]}
""")
    return path
