"""The main job: recorded wafers in, verdicts out, under one command."""

import datetime
import json

from fab import process_is_there
from traces import LAM_CHARTS, write_runs

FIELDS = {"context_id": str, "tool_id": str, "chamber_id": str, "recipe": str, "lot": str, "wafer": str, "started_at": str,
          "ended_at": str, "svid_count": int, "point_count": int, "chunk_count": int}


def test_wafers_go_in_and_verdicts_come_out(fab, root, tmp_path):
    """An engineer starts a fab, imports the recorded etch wafers and waits: every wafer has a verdict, the stream is empty.
    Ctrl-C ends every process; the second start, in the same folder, finds all of it again, and importing the same files
    again changes nothing."""
    names = [row.split(",")[0] for row in (root / "data/lam9600/runs.csv").read_text().splitlines()[1:]]
    assert len(names) == 86
    (tmp_path / "lam.yaml").write_text(LAM_CHARTS)
    fab.up("--charts", str(tmp_path / "lam.yaml"))
    imported = fab.json("import", root / "data/lam9600")
    fab.wait()
    assert imported["announced"] == len(names) and imported["conflicts"] == 0
    fab.assert_all_judged(names)
    status = fab.status()
    assert status["contexts"] == {"announced": len(names), "judged": len(names), "dead": 0}
    assert [member["id"] for member in status["members"]] == ["defender-0"] and status["leader"] == "defender-0"
    fab.assert_verified()

    before, children = fab.ucharts(), fab.children()
    assert set(children) == {"nats-server", "defender-0", "collector-0"} and all(map(process_is_there, children.values()))
    assert fab.interrupt() == 0
    assert not any(map(process_is_there, children.values()))

    fab.up()
    assert fab.status()["contexts"] == status["contexts"]
    assert fab.ucharts() == before
    again = fab.json("import", root / "data/lam9600")
    fab.wait()
    assert again["existed"] == len(names)
    assert fab.ucharts() == before
    assert fab.interrupt() == 0


def test_a_second_up_in_the_same_folder_is_refused(fab):
    """Two supervisors over one store would judge everything twice: the second says so and leaves the first alone."""
    fab.up()
    second = fab.tool("up", "--dir", fab.dir)
    assert second.returncode == 1 and "another `chamberlain up` runs" in second.stderr
    assert fab.status()["members"][0]["state"] == "LEADER"


def test_what_dies_under_up_is_started_again(fab, tmp_path):
    """Both children of `up` are killed; both are back, under new process ids, and judge what is imported then."""
    names = write_runs(tmp_path / "runs", chambers=4, runs=3)
    fab.up()
    before = fab.children()
    for pid in before.values():
        fab.kill_pid(pid)
    fab.wait_for_children_other_than(before)
    fab.run("import", tmp_path / "runs")
    fab.wait()
    fab.assert_all_judged(names)


def test_the_announcement_is_the_documented_one(fab, tmp_path):
    """Another program reads the stream: one message a context, on its chamber's subject, with the documented fields; a
    column of runs.csv that Chamberlain does not know travels with the context."""
    write_runs(tmp_path / "runs", chambers=2, runs=1, samples=30)
    runs = (tmp_path / "runs/runs.csv").read_text().splitlines()
    runs = [runs[0] + ",wet_clean_count"] + [f"{row},{40 + i}" for i, row in enumerate(runs[1:])]
    (tmp_path / "runs/runs.csv").write_text("\n".join(runs) + "\n")
    fab.start()
    fab.kill(fab.defender)
    fab.run("import", tmp_path / "runs")
    messages = fab.nats().messages("dc-notifications")
    assert [message.subject for message in messages] == ["dc.ETCH-1.PM1.completed", "dc.ETCH-1.PM2.completed"]
    assert [message.headers["Nats-Msg-Id"] for message in messages] == ["c000-00", "c000-01"]
    announced = json.loads(messages[1].data)
    for field, kind in FIELDS.items():
        assert type(announced[field]) is kind, field
    begin, end = (datetime.datetime.fromisoformat(announced[key].replace("Z", "+00:00"))
                  for key in ("started_at", "ended_at"))
    assert announced["started_at"].endswith("Z") and announced["ended_at"].endswith("Z")
    assert (begin, end) == (datetime.datetime(2026, 1, 5, 0, 0, 1, tzinfo=datetime.timezone.utc),
                            datetime.datetime(2026, 1, 5, 0, 0, 30, tzinfo=datetime.timezone.utc))
    assert [announced[key] for key in ("context_id", "tool_id", "chamber_id", "recipe", "lot", "wafer")] == [
        "c000-01", "ETCH-1", "PM2", "ETCH_A", "lot0", "0"]
    # Three sensors and the step number, which is a series like theirs, at 30 moments.
    assert (announced["svid_count"], announced["point_count"], announced["chunk_count"]) == (4, 120, 1)
    assert str(announced["wet_clean_count"]) == "41"
