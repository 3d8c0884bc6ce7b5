"""`up --defenders 1..3`: defenders are added under load and taken away at rest, with the minutes of the rule made seconds
(docs/operations.md). Contexts flow all the while, and every one is judged once."""

import threading
import time

import pytest

from cluster import Cluster, children_of_up
from fab import process_is_there, until

BOUND = "1ms"  # any load of this machine is over it
PER_S = 6


@pytest.fixture
def cluster(binary, tmp_path):
    made = Cluster(binary, tmp_path / "scaled")
    yield made
    made.close()


class Seats:
    """Watches how many defenders `up` runs: (when, how many), one entry a change."""

    def __init__(self, cluster):
        self.changes = [(time.monotonic(), len(children_of_up(cluster)))]
        self.pids = dict(children_of_up(cluster))
        self._cluster = cluster
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self):
        while not self._over.wait(0.02):
            children = children_of_up(self._cluster)
            self.pids.update(children)
            if len(children) != self.changes[-1][1]:
                self.changes.append((time.monotonic(), len(children)))

    def now(self):
        return self.changes[-1][1]

    def stop(self):
        self._over.set()
        self._thread.join()


def test_defenders_come_under_load_and_go_at_rest(cluster, figures):
    cluster.prepare(chambers=24, rate=80)
    cluster.up("--defenders", "1..3", "--scale-p95", BOUND, "--scale-after", "1s", "--scale-idle", "2s",
               "--scale-per", f"{PER_S}s", "--compute-threads", "1", "--sweep-age", "1h")
    cluster.observe()
    seats = Seats(cluster)
    cluster.make_flow().announce_each_chamber()
    flowing = cluster.begin_flow()
    since = time.monotonic()
    until(lambda: seats.now() == 3, lambda: f"three defenders\n{cluster.log('up.log')}", 40)
    out_s = time.monotonic() - since
    until(lambda: cluster.is_shared_by(["defender-0", "defender-1", "defender-2"]), "the chambers to be shared", 40)
    cluster.flow.stop()
    rest = time.monotonic()
    until(lambda: seats.now() == 1, lambda: f"one defender\n{cluster.log('up.log')}", 60)
    in_s = time.monotonic() - rest
    until(lambda: cluster.is_shared_by(["defender-0"]), "the chambers to be back", 40)
    cluster.begin_flow()  # seats that were left are taken again
    until(lambda: seats.now() == 3, lambda: f"three defenders again\n{cluster.log('up.log')}", 40)
    until(lambda: cluster.is_shared_by(["defender-0", "defender-1", "defender-2"]), "the chambers to be shared again", 40)
    cluster.flow.stop()
    until(lambda: seats.now() == 1, lambda: f"one defender\n{cluster.log('up.log')}", 60)
    seats.stop()
    until(lambda: cluster.is_shared_by(["defender-0"]), "the chambers to be back", 40)
    cluster.assert_whole()
    figures.add("1..3 x 24", "autoscaling, compressed", "1 to 3 defenders", f"{out_s:.1f} s")
    figures.add("1..3 x 24", "autoscaling, compressed", "3 to 1 at rest", f"{in_s:.1f} s")
    figures.add("1..3 x 24", "autoscaling, compressed", "longest wait of a context",
                f"{cluster.flow.longest_wait_s(flowing):.2f} s")

    assert [count for _, count in seats.changes] == [1, 2, 3, 2, 1, 2, 3, 2, 1]
    for (first, _), (third, _) in zip(seats.changes[1:], seats.changes[3:]):
        assert third - first > PER_S - 0.5, f"more than two changes in {PER_S} s: {seats.changes}"
    assert cluster.map()["emergencies"] == 0, "one did not leave but die"
    assert len(cluster.said("stops: finishing", since)) == 4
    assert [pid for pid in seats.pids.values() if process_is_there(pid)] == list(children_of_up(cluster).values())


@pytest.mark.parametrize("range_", ["0", "3..2", "1..", "..3", "1...3", "1..3x", "many", "1..513"])
def test_a_wrong_range_is_refused(fab, range_):
    refused = fab.run("up", "--defenders", range_, ok=False)
    assert refused.returncode == 1
    assert f"--defenders {range_}" in refused.stderr and "3..10" in refused.stderr
    assert not fab.dir.exists()
