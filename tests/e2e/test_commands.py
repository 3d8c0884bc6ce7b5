"""What the engineer types: charts are written, learned, used; verdicts and alarms are looked at; damage is found."""

import json

import pytest

from traces import CHARTS

BAD_CHARTS = """\
charts:
  - name: pressure.mean
    equation: meen(Pressure)
    rules: [western_electrik]
  - name: pressure.mean
    equation: mean(Pressure)
  - name: pressure.spread
    equation: std(Pressure, stepp 4)
    severty: info
"""


def json_lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_every_mistake_of_a_chart_file_has_its_place(fab, tmp_path):
    """`charts check` names each mistake with line and column and what was perhaps meant, and fails; a good file passes; and
    `charts use` brings a good one in force, but no bad one."""
    bad, good = tmp_path / "bad.yaml", tmp_path / "good.yaml"
    bad.write_text(BAD_CHARTS)
    good.write_text(CHARTS)
    checked = fab.tool("charts", "check", bad)
    assert checked.returncode == 1
    found = (checked.stdout + checked.stderr).splitlines()
    for place, words in (("3:15", "mean"), ("4:13", "western_electric"), ("5:11", "pressure.mean"), ("8:29", "step"),
                         ("9:5", "severity")):
        assert any(line.startswith(f"{bad}:{place}: error: ") and words in line for line in found), (place, found)
    assert fab.tool("charts", "check", good).returncode == 0

    fab.start()
    refused = fab.run("charts use", bad, ok=False)
    assert refused.returncode == 1 and f"{bad}:3:15" in refused.stdout + refused.stderr
    fab.run("charts use", good)
    listed = fab.json("charts list")["charts"]
    assert [chart["name"] for chart in listed] == ["pressure.mean", "temperature.max", "flow.over.pressure"]


def test_charts_learned_from_normal_wafers_find_the_faults(fab, root, tmp_path):
    """The demonstration of the LAM 9600 set: charts are learned from the first 20 normal wafers of each experiment, brought
    in force and applied to all. All 15 induced faults are found, with at most one false alarm among the later normal
    wafers; and every command that looks at them tells the same story."""
    lam, learned = root / "data/lam9600", tmp_path / "charts.yaml"
    fab.start()
    fab.run("import", lam)
    fab.wait()
    fab.run("charts learn", "--runs", lam / "runs.csv", "--only", "normal", "--limit", "20", "--per", "lot",
            "--out", learned)
    fab.run("charts use", learned)
    replayed = fab.json("replay", "--alarms")
    assert replayed["announced"] == 86
    fab.wait()

    result = fab.json("evaluate", "--labels", lam / "runs.csv")
    print({key: result[key] for key in ("faults", "false_alarms", "learned", "later_normal")})
    assert result["faults"] == {"found": 15, "total": 15}
    assert result["later_normal"]["count"] == 31 and result["later_normal"]["alarmed"] <= 1
    assert result["learned"]["contexts"] == 40
    assert result["false_alarms"]["normal"] == 71 and result["false_alarms"]["count"] <= 2
    fab.assert_verified()

    charts = {chart["name"] for chart in fab.json("charts list")["charts"]}
    alarms = json_lines(fab.run("alarms", "--limit", "1000", "--json").stdout)
    alarmed = {context["id"] for context in result["contexts"] if context["alarmed"]}
    assert {alarm["context_id"] for alarm in alarms} == alarmed
    assert {alarm["chart"] for alarm in alarms} <= charts
    on_stream = [json.loads(message.data) for message in fab.nats().messages("alarms")]
    assert {(a["context_id"], a["chart"]) for a in on_stream} == {(a["context_id"], a["chart"]) for a in alarms}

    context = fab.json("context show", "l2915")
    fired = [verdict for verdict in context["verdicts"] if verdict["state"] == "alarm"]
    assert context["alarms"] == len(fired) > 0 and len(context["verdicts"]) == len(charts)
    worst = fired[0]
    assert worst["rules"] and not worst["lower"] <= worst["value"] <= worst["upper"]
    chart = fab.json("charts show", worst["chart"], "--tool", "LAM9600", "--chamber", "PM1", "--last", "100")
    point, = (point for point in chart["contexts"] if point["context_id"] == "l2915")
    assert (point["value"], point["lower"], point["upper"], point["rules"]) == (
        worst["value"], worst["lower"], worst["upper"], worst["rules"])


def test_a_replay_gives_the_same_bits(fab, root, tmp_path, charts):
    """Judging stored contexts again by the same charts changes no verdict and raises no second alarm."""
    fab.put_charts(charts)
    fab.start()
    fab.run("import", root / "data/lam9600")
    fab.wait()
    before, alarms = fab.ucharts(), fab.nats().stream("alarms").state.messages
    fab.run("replay", "--alarms")
    fab.wait()
    assert fab.ucharts() == before
    assert fab.nats().stream("alarms").state.messages == alarms


@pytest.mark.parametrize("table, column", [("u_charts", "points"), ("u_chart_verdicts", "verdicts"),
                                           ("t_chart_chunks", "bytes")])
def test_verify_finds_one_flipped_bit(fab, root, charts, table, column):
    """One bit of one wafer flips on the disk, in its values, its verdicts or its trace: `verify`, which had nothing to say
    before, fails and names the wafer."""
    fab.put_charts(charts)
    fab.start()
    fab.run("import", root / "data/lam9600")
    fab.wait()
    fab.assert_verified()
    number, = fab.sql("SELECT context_no FROM contexts WHERE context_id = 'l2920'")[0]
    data, = fab.sql(f"SELECT {column} FROM {table} WHERE context_no = ?", number)[0]
    place = len(data) * 2 // 3
    flipped = data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1:]
    fab.edit_store(f"UPDATE {table} SET {column} = ? WHERE context_no = ?", flipped, number)
    verified = fab.run("verify", ok=False)
    assert verified.returncode == 1
    assert "l2920" in verified.stdout + verified.stderr
    verified = fab.run("verify", "--json", ok=False)
    assert verified.returncode == 1 and "l2920" in verified.stdout
