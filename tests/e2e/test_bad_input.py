"""What cannot be judged is set aside with its reason; what comes late or twice changes nothing."""

import json
import random
import signal

from test_crashes import prepared, publish_all
from traces import write_runs


def letters(client):
    """The dead letters: (class header, reason header, body) by context, None for one that names no context."""
    found = {}
    for message in client.messages("dc-dead"):
        body = json.loads(message.data)
        found.setdefault(body["context_id"], []).append(
            (message.headers["Chamberlain-Class"], message.headers["Chamberlain-Reason"], body, message.subject))
    return found


def test_poison_is_set_aside_with_its_reason_and_stops_nobody(fab, tmp_path, charts):
    """Among good contexts come: a trace whose bytes have rotted, a message that is no JSON, one whose subject names another
    chamber than its body, and one whose trace never arrives. Each ends in dc-dead with its reason and the message as it
    came; the good ones are judged, in the same chambers, and the stream is empty."""
    names, announcements = prepared(fab, tmp_path, charts, chambers=4, runs=10)
    client = fab.nats()
    rotten = "c004-02"
    fab.edit_store("UPDATE t_chart_chunks SET bytes = zeroblob(length(bytes)) WHERE context_no ="
                   " (SELECT context_no FROM contexts WHERE context_id = ?)", rotten)
    strange = json.loads(announcements["c005-01"][1]) | {"context_id": "moved"}
    missing = json.loads(announcements["c005-02"][1]) | {"context_id": "nowhere"}
    fab.start_defender("--missing-delay", "100ms")
    publish_all(client, announcements, names[:20])
    client.publish("dc.ETCH-1.PM1.completed", "{this is no JSON", message_id="no-json")
    client.publish("dc.ETCH-1.PM4.completed", strange, message_id="moved")
    client.publish(announcements["c005-02"][0], missing, message_id="nowhere")
    publish_all(client, announcements, names[20:])
    fab.wait()

    dead = letters(client)
    assert set(dead) == {rotten, None, "nowhere"}
    (kind, reason, body, subject), = dead[rotten]
    assert kind == "poison" and body["class"] == kind and body["reason"] and reason
    assert subject == "dead.ETCH-1.PM3" and body["subject"] == announcements[rotten][0]
    assert json.loads(body["announcement"]) == json.loads(announcements[rotten][1])

    unread = sorted(dead[None], key=lambda letter: letter[2]["subject"])
    assert [letter[0] for letter in unread] == ["poison", "poison"]
    assert unread[0][2]["announcement"] == "{this is no JSON" and "JSON" in unread[0][1]
    assert "PM4" in unread[1][1] and "PM2" in unread[1][1], unread[1][1]

    (kind, reason, body, subject), = dead["nowhere"]
    assert kind == "missing" and (body["tool_id"], body["chamber_id"]) == ("ETCH-1", "PM3") and reason
    counts = fab.status()["members"][0]["counts"]
    assert counts["dead"] == 4 and counts["retried"] >= 2, "a missing trace is asked for again before it is given up"
    fab.assert_all_judged([name for name in names if name != rotten], dead=[rotten, "nowhere"])
    fab.assert_verified()


def test_a_rotten_verdict_stops_only_those_it_is_history_for_and_heals(fab, tmp_path, charts):
    """The bytes of one stored verdict rot. A context whose limits would hang on it is set aside, with the reason naming the
    rotten one, instead of being judged by a wrong history; other chambers go on. Announced again, the rotten one is judged
    anew to the same bits, and then so is the one that was set aside."""
    names, announcements = prepared(fab, tmp_path, charts, chambers=4, runs=9)
    client = fab.nats()
    fab.start_defender()
    publish_all(client, announcements, names[:32])
    fab.wait_for_empty_stream()
    fab.kill(fab.defender)
    sound = fab.ucharts()
    fab.edit_store("UPDATE u_charts SET points = zeroblob(length(points)) WHERE context_id = 'c005-01'")
    fab.start_defender()
    publish_all(client, announcements, names[32:])
    fab.wait()
    (kind, reason, *_), = letters(client)["c008-01"]
    assert kind == "poison" and "c005-01" in reason
    fab.assert_all_judged([name for name in names if name != "c008-01"], dead=["c008-01"])

    for name in ("c005-01", "c008-01"):
        publish_all(client, announcements, [name], prefix="again")
        fab.wait()
    fab.assert_all_judged(names)
    assert {name: fab.ucharts()[name] for name in sound} == sound
    fab.assert_verified()


def test_the_same_announcement_five_times_is_one_verdict(fab, tmp_path, charts):
    """A collector that is not sure announces again, under other message ids, among the others' messages: each context is
    judged once, and its verdict is what a fab with one announcement each has."""
    names, announcements = prepared(fab, tmp_path, charts, chambers=4, runs=10)
    client = fab.nats()
    chance = random.Random(5)
    repeated = [(name, turn) for name in names for turn in range(5)]
    order = {pair: names.index(pair[0]) + chance.uniform(0, 12) * (pair[1] > 0) for pair in repeated}
    fab.start_defender()
    for name, turn in sorted(repeated, key=order.get):
        subject, message = announcements[name]
        client.publish(subject, message, message_id=f"{turn}-{name}")
    fab.wait()
    fab.assert_all_judged(names)
    counts = fab.status()["members"][0]["counts"]
    assert counts["judged"] == len(names) and counts["repeated"] == 4 * len(names)
    fab.assert_verified()
    before = fab.ucharts()
    publish_all(client, announcements, names, prefix="once more")
    fab.wait()
    assert fab.ucharts() == before


def test_a_repetition_after_a_restart_leaves_no_hole_in_the_history(fab, tmp_path, charts):
    """The first thing a fresh defender hears of each chamber is its newest context once more; what comes next is judged by
    a history that has it all the same."""
    names, announcements = prepared(fab, tmp_path, charts, chambers=4, runs=10)
    client = fab.nats()
    fab.start_defender()
    publish_all(client, announcements, names[:32])
    fab.wait_for_empty_stream()
    fab.kill(fab.defender, signal.SIGTERM)
    fab.start_defender()
    publish_all(client, announcements, names[28:32], prefix="again")
    fab.wait_for_empty_stream()
    publish_all(client, announcements, names[32:])
    fab.wait()
    fab.assert_all_judged(names)
    fab.assert_verified()


def test_late_contexts_leave_the_verdicts_of_an_ordered_run(make_fab, tmp_path, charts):
    """The same runs reach one fab in their order and another one shuffled, as when equipment was cut off for a while. Every
    verdict comes out the same to the last bit: history is by event time, and what a late one changes is judged again."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    names = write_runs(tmp_path / "ordered", 4, 40)
    write_runs(tmp_path / "shuffled", 4, 40, order=random.Random(seed))
    results = []
    for order in ("ordered", "shuffled"):
        fab = make_fab(f"fab-{order}")
        fab.put_charts(charts)
        fab.start()
        fab.run("import", tmp_path / order)
        fab.wait()
        fab.assert_all_judged(names)
        fab.assert_verified()
        results.append((fab.ucharts(), fab.status()["members"][0]["counts"]["rejudged"]))
    (ordered, _), (shuffled, rejudged) = results
    assert rejudged > 0, "nothing came late: this proves nothing"
    assert any(alarms for *_, alarms, _ in ordered.values()), "no verdict differs from the others: this proves little"
    differing = [name for name in names if ordered[name] != shuffled[name]]
    assert differing == []
