"""Nothing is lost and nothing is judged twice, whatever dies and whenever."""

import json
import random
import shutil
import signal
import time

from fab import until
from traces import write_runs

UNHURRIED = ("--max-in-flight", "4")  # so that something is still to do when something dies


def publish_all(client, announcements, names, prefix="hand"):
    client.publish_all([(*announcements[name], f"{prefix}-{name}") for name in names])


def prepared(fab, tmp_path, charts, chambers=20, runs=15):
    """Streams are there, contexts are stored, nothing is announced, no defender runs. Returns ids and announcements."""
    names = write_runs(tmp_path / "runs", chambers, runs)
    fab.put_charts(charts)
    fab.start()
    fab.kill(fab.defender, signal.SIGTERM)
    announcements = fab.take_announcements(tmp_path / "runs")
    assert sorted(announcements) == sorted(names)
    return names, announcements


def kill_in_the_middle_of_work(fab, client, names, chance, kills, least):
    """Starts a defender and kills it while it works, so many times, at least `least` of them with something unacknowledged."""
    in_the_middle = []
    for _ in range(kills):
        before = len(fab.judged_ids())
        fab.start_defender("--ack-wait", "1s", *UNHURRIED, ready=False)
        until(lambda: len(fab.judged_ids()) > before or before == len(names), "the work to go on")
        time.sleep(chance.uniform(0, 0.03))
        fab.kill(fab.defender)
        in_the_middle.append(client.consumer("dc-notifications", "defender-0").num_ack_pending)
    assert sum(pending > 0 for pending in in_the_middle) >= least, f"too few kills in the middle of work: {in_the_middle}"


def alarms_raised_once(client):
    """Context, chart and rule of every alarm; none of them twice."""
    alarms = [json.loads(message.data) for message in client.messages("alarms")]
    raised = [(alarm["context_id"], alarm["chart"], alarm["rule"]) for alarm in alarms]
    assert len(raised) == len(set(raised)), "an alarm was raised twice"
    return raised


def test_a_defender_killed_at_random_moments_loses_and_doubles_nothing(fab, tmp_path, charts):
    """A program of another kind announces 300 contexts, and the defender is killed, without warning, six times in the middle
    of its work. Afterwards every context has exactly one verdict, each is what a recomputation gives, every alarm was raised
    once, the stream is empty and no letter is dead."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    names, announcements = prepared(fab, tmp_path, charts)
    client = fab.nats()
    publish_all(client, announcements, names)
    kill_in_the_middle_of_work(fab, client, names, chance, kills=6, least=3)
    fab.start_defender()
    fab.wait()
    fab.assert_all_judged(names)
    assert client.stream("dc-dead").state.messages == 0
    raised = alarms_raised_once(client)
    assert len({alarm[:2] for alarm in raised}) == fab.sql("SELECT sum(alarm_count) FROM u_charts")[0][0] > 0
    fab.assert_verified()


def test_a_defender_killed_while_it_judges_again_finishes_that_too(fab, tmp_path, charts):
    """Contexts arrive in any order, so that most of them change verdicts that are stored already, and the defender is killed
    again and again in the middle of that. In the end every verdict is what a recomputation from the traces gives: no late
    context was acknowledged before all that it changes was judged again."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    names, announcements = prepared(fab, tmp_path, charts, chambers=4, runs=40)
    client = fab.nats()
    chance.shuffle(names)
    publish_all(client, announcements, names)
    for _ in range(6):
        before = len(fab.judged_ids())
        fab.start_defender("--ack-wait", "1s", *UNHURRIED, ready=False)
        until(lambda: len(fab.judged_ids()) > before or before == len(names), "the work to go on")
        time.sleep(chance.uniform(0, 0.05))
        fab.kill(fab.defender)
    fab.start_defender()
    fab.wait()
    fab.assert_all_judged(names)
    assert fab.status()["members"][0]["counts"]["rejudged"] > 0, "nothing was judged again: this proves nothing"
    fab.assert_verified()


def test_a_consumer_that_is_taken_away_is_made_anew(fab, tmp_path, charts):
    """Someone deletes the defender's consumer while it works, three times, which is how a dead member is fenced. The living
    one notices, makes it again, and judges the rest; what it had in hand is judged once."""
    names, announcements = prepared(fab, tmp_path, charts)
    client = fab.nats()
    publish_all(client, announcements, names)
    fab.start_defender(*UNHURRIED)
    until(lambda: client.consumer_exists("dc-notifications", "defender-0"), "the chambers to be owned")
    for _ in range(3):
        client.delete_consumer("dc-notifications", "defender-0")
        until(lambda: client.consumer_exists("dc-notifications", "defender-0"), "the consumer to be made anew")
    fab.wait()
    fab.assert_all_judged(names)
    assert fab.status()["members"][0]["counts"]["judged"] == len(names)
    assert client.stream("dc-dead").state.messages == 0
    fab.assert_verified()


def test_a_nats_server_that_loses_its_disk_loses_no_context(fab, tmp_path, charts):
    """nats-server dies in mid-flight, its whole store folder is gone, and an empty one comes up: the store's outbox still
    has every context. Streams and consumer are made anew, and all is judged."""
    names, announcements = prepared(fab, tmp_path, charts)
    client = fab.nats()
    publish_all(client, announcements, names)
    fab.start_defender("--sweep-age", "2s", "--sweep-interval", "1s", *UNHURRIED, ready=False)
    until(lambda: len(fab.judged_ids()) > 20, "some contexts to be judged")
    fab.kill(fab.server)
    shutil.rmtree(fab.dir / "nats")
    judged_then = len(fab.judged_ids())
    assert judged_then < len(names), "the server died too late: nothing was in flight"
    fab.start_nats()
    fab.wait()
    fab.assert_all_judged(names)
    assert len(names) > judged_then
    for stream in ("dc-notifications", "dc-dead", "alarms"):
        assert client.stream_exists(stream), stream
    assert client.consumer("dc-notifications", "defender-0").num_ack_pending == 0
    assert client.stream("dc-dead").state.messages == 0
    fab.assert_verified()


def test_messages_that_nobody_was_there_for_are_found(fab, tmp_path, charts):
    """Contexts announced while no defender runs wait in the stream, also across a restart of nats-server; the defender that
    comes judges them all."""
    names, announcements = prepared(fab, tmp_path, charts, chambers=5, runs=8)
    publish_all(fab.nats(), announcements, names)
    fab.kill(fab.server)
    fab.start_nats()
    assert fab.status()["messages_waiting"] == len(names)
    fab.start_defender()
    fab.wait()
    fab.assert_all_judged(names)
    fab.assert_verified()


def test_a_defender_told_to_stop_finishes_and_the_next_one_goes_on(fab, tmp_path, charts):
    """SIGTERM while contexts are in flight: what was begun is finished, the exit is 0 and within 25 s, and the next defender
    finds the rest."""
    names, announcements = prepared(fab, tmp_path, charts)
    client = fab.nats()
    publish_all(client, announcements, names)
    fab.start_defender(*UNHURRIED, ready=False)
    until(lambda: len(fab.judged_ids()) > 20, "some contexts to be judged")
    begin = time.monotonic()
    assert fab.kill(fab.defender, signal.SIGTERM) == 0
    assert time.monotonic() - begin < 25
    left = len(names) - len(fab.judged_ids())
    assert left > 0, "stopped too late: nothing was in flight"
    until(lambda: client.stream("dc-notifications").state.messages == left, "the last acknowledgements")
    fab.start_defender()
    fab.wait()
    fab.assert_all_judged(names)
    assert fab.status()["members"][0]["counts"]["repeated"] == 0
    fab.assert_verified()


def test_a_defender_that_sleeps_beyond_its_ack_wait_does_no_harm(fab, tmp_path, charts):
    """A paused process (a laptop lid, a hypervisor) wakes up with messages that the server has long handed out again: it
    judges nothing twice, and nothing is lost."""
    names, announcements = prepared(fab, tmp_path, charts)
    client = fab.nats()
    publish_all(client, announcements, names)
    fab.start_defender("--ack-wait", "2s", *UNHURRIED, ready=False)
    until(lambda: len(fab.judged_ids()) > 20, "some contexts to be judged")
    fab.defender.send_signal(signal.SIGSTOP)
    assert len(fab.judged_ids()) < len(names), "paused too late: nothing was in flight"
    time.sleep(3.5)
    fab.defender.send_signal(signal.SIGCONT)
    fab.wait()
    fab.assert_all_judged(names)
    counts = fab.status()["members"][0]["counts"]
    assert counts["judged"] == len(names) and counts["dead"] == 0
    fab.assert_verified()
