"""The store is away for a while: the defender waits, drops nothing, blames nobody, and goes on."""

import contextlib
import sqlite3
import subprocess
import time

import pytest

from fab import until
from test_crashes import prepared, publish_all
from traces import write_runs


def test_a_locked_store_is_waited_for(fab, tmp_path, charts):
    """Another program holds the database's lock for longer than the defender's own patience. Nothing is dead-lettered and
    no more is pulled than can be held; an import says that it waits. When the lock is gone, all is stored and judged."""
    names, announcements = prepared(fab, tmp_path, charts)
    client = fab.nats()
    write_runs(tmp_path / "more", chambers=1, runs=1, prefix="more")
    fab.start_defender()
    with contextlib.closing(sqlite3.connect(fab.store, timeout=10, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        publish_all(client, announcements, names)
        importing = fab.spawn("import", tmp_path / "more", log="import.log")
        until(lambda: client.consumer_exists("dc-notifications", "defender-0"), "the chambers to be owned")
        until(lambda: client.consumer("dc-notifications", "defender-0").num_ack_pending > 0, "the defender to begin")
        time.sleep(7)
        assert fab.judged_ids() == []
        assert client.stream("dc-dead").state.messages == 0
        assert fab.status()["members"][0]["counts"]["retried"] > 0, "the lock was never felt"
        until(lambda: "trying again" in fab.log("import.log"), "the import to say that it waits")
        assert importing.poll() is None
        other.execute("ROLLBACK")
    assert importing.wait(30) == 0
    fab.wait()
    fab.assert_all_judged([*names, "more000-00"])
    assert client.stream("dc-dead").state.messages == 0
    fab.assert_verified()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 48 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs a mount: run as root")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_is_waited_for(small_disk, make_fab, tmp_path, charts):
    """The disk under the store is full: no verdict can be written. Once there is room again, every context is judged."""
    fab = make_fab("fab")
    fab.store = small_disk / "store.db"
    names, announcements = prepared(fab, tmp_path, charts, chambers=10, runs=10)
    client = fab.nats()
    fab.start_defender("--ack-wait", "5s")
    ballast = small_disk / "ballast"
    with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
        while file.write(b"x" * 4096) == 4096:
            pass
    publish_all(client, announcements, names)
    until(lambda: client.ask("cluster.ask.defender-0")["counts"]["retried"] > 0, "the full disk to be felt")
    assert len(fab.judged_ids()) < len(names)
    assert client.stream("dc-dead").state.messages == 0
    ballast.unlink()
    fab.wait()
    fab.assert_all_judged(names)
    assert client.stream("dc-dead").state.messages == 0
    fab.assert_verified()
