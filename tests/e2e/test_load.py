"""The load of chambers as their owners observe it: told to the roster, and chambers move for it."""

import json
import time

from fab import AT_WORK, until

CHAMBERS = 8
OBSERVE = ("--load-memory", "4s", "--reweigh", "3s", "--expected", "2", "--compute-threads", "1")
RUNS = ("--direct", "--chambers-per-tool", 1, "--sensors", 5, "--run-time", "60s")


def roster(client):
    return client.bucket("chambers")


def owned(client):
    return {key: value["chambers"] for key, value in client.bucket("assignments").items() if key != "map"}


def both_at_work(fab):
    status = fab.run("status", "--json", ok=False)
    return status.returncode == 0 and sum(member["state"] in AT_WORK for member in json.loads(status.stdout)["members"]) == 2


def test_chambers_move_for_a_load_that_was_observed(fab):
    fab.start_nats()
    for seat in range(2):
        fab._start([fab.binary, "defend", "--seat", str(fab.dir / f"{seat}.seat"), "--nats", fab.url, "--store", fab.store_url,
                    *OBSERVE], f"observer-{seat}.log")
    until(lambda: both_at_work(fab), "two defenders")
    client = fab.nats()
    everywhere = fab.spawn("simulate", *RUNS, "--tools", CHAMBERS, "--rate", 40, "--duration", "20s", log="everywhere.log")
    until(lambda: [set(one) for one in roster(client).values()] == CHAMBERS * [{"weight", "observed"}],
          lambda: f"the load of every chamber: {roster(client)}")
    told = roster(client)
    rates = sorted(one["observed"] for one in told.values())
    assert rates[-1] < 2.5 * rates[0] and all(one["weight"] > 0 for one in told.values())
    before = owned(client)
    assert sorted(map(len, before.values())) == [4, 4]

    # One chamber turns out to be more than ten times as busy: what was beside it goes to the other defender.
    busy = "T0001.PM1"
    host = next(key for key, chambers in before.items() if busy in chambers)
    alone = fab.spawn("simulate", *RUNS, "--tools", 1, "--first", 100000, "--rate", 60, "--duration", "14s", log="busy.log")
    until(lambda: owned(client).get(host) == [busy], lambda: f"{busy} to have a defender of its own: {owned(client)}, {roster(client)}")
    after = roster(client)
    assert after[busy]["observed"] > 5 * max(one["observed"] for name, one in after.items() if name != busy)
    assert after[busy]["weight"] == told[busy]["weight"]  # what was registered stays
    assert everywhere.wait(60) == 0 and alone.wait(60) == 0
    fab.wait()
    counts = fab.status()["contexts"]
    assert counts["announced"] == counts["judged"] == 40 * 20 + 60 * 14 and counts["dead"] == 0
    assert "weights have changed" in fab.log("observer-0.log") + fab.log("observer-1.log")
    fab.assert_verified()


def test_an_idle_cluster_tells_nothing(fab):
    fab.start(*OBSERVE[:4], "--compute-threads", "1")
    fab.run("simulate", *RUNS, "--tools", 2, "--runs", 2)
    fab.wait()
    time.sleep(3)  # enough time, not enough runs
    assert all(set(one) == {"weight"} for one in roster(fab.nats()).values())
