"""`import --watch`: files are taken as they arrive, once each; and a stored trace is never replaced."""

import signal
import time

import pytest

from fab import until
from traces import START, write_runs, write_trace

MAPPING = """\
name: arriving
files: "*.csv"
context: "{@file}"
tool: ETCH-1
chamber: PM1
recipe: ETCH_A
time: {column: time, format: rfc3339}
step: step
sensors: all
"""


@pytest.fixture
def spool(tmp_path):
    (tmp_path / "arriving.yaml").write_text(MAPPING)
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder


def start_watcher(fab, spool):
    watcher = fab.spawn("import", "--watch", "--mapping", spool.parent / "arriving.yaml", spool, log="watch.log")
    return watcher


def taken(fab):
    """What the watchers said that they took, in order."""
    return [line.split(":")[0] for line in fab.log("watch.log").splitlines() if line.endswith(": 1 contexts")]


def test_files_are_taken_as_they_arrive_once_each(fab, spool):
    """Files come one by one; one is written under another name first and renamed when it is complete. The watcher dies and
    comes back, and takes what came meanwhile and nothing that it had before. Ctrl-C ends it."""
    fab.start()
    watcher = start_watcher(fab, spool)
    write_trace(spool / "first.csv", START, 30, 1)
    write_trace(spool / "second.csv.tmp", START, 20, 2)
    until(lambda: taken(fab) == ["first.csv"], "the first file to be taken")
    time.sleep(2.5)  # longer than a file must stand still to be taken
    assert taken(fab) == ["first.csv"], "an unfinished file was taken"
    write_trace(spool / "second.csv.tmp", START, 40, 2)
    (spool / "second.csv.tmp").rename(spool / "second.csv")
    until(lambda: taken(fab) == ["first.csv", "second.csv"], "the renamed file to be taken")

    fab.kill(watcher)
    write_trace(spool / "third.csv", START, 30, 3)
    watcher = start_watcher(fab, spool)
    until(lambda: "third.csv" in taken(fab), "the third file to be taken")
    fab.wait()
    assert taken(fab) == ["first.csv", "second.csv", "third.csv"]
    assert fab.judged_ids() == ["first", "second", "third"]
    points = dict(fab.sql("SELECT context_id, json_extract(announcement, '$.point_count') FROM contexts"))
    assert points["second"] == 4 * 40
    assert fab.kill(watcher, signal.SIGINT) == 0


def test_another_trace_under_a_stored_name_is_refused(fab, tmp_path, charts):
    """Equipment reuses a run's name for another run: the import says so and fails, and the stored trace and its verdict stay
    as they were; the good files beside it are taken."""
    names = write_runs(tmp_path / "runs", chambers=1, runs=5)
    fab.put_charts(charts)
    fab.start()
    fab.run("import", tmp_path / "runs")
    fab.wait()
    before = fab.ucharts(), fab.sql("SELECT * FROM t_chart_chunks ORDER BY 1, 2")
    write_trace(tmp_path / "runs" / f"{names[2]}.csv", START, 30, "another run")
    with open(tmp_path / "runs/runs.csv", "a") as runs:
        runs.write("new,ETCH-1,PM1,ETCH_A,lot0,9\n")
    write_trace(tmp_path / "runs/new.csv", START.replace(hour=23), 30, "new")
    refused = fab.run("import", tmp_path / "runs", ok=False)
    assert refused.returncode == 1
    assert names[2] in refused.stderr and "1 refused" in refused.stdout
    fab.wait()
    fab.assert_all_judged([*names, "new"])
    after = fab.ucharts()
    assert {name: after[name] for name in names} == before[0]
    assert fab.sql("SELECT * FROM t_chart_chunks ORDER BY 1, 2")[:len(before[1])] == before[1]
    fab.assert_verified()
