"""`mebo dump` and `mebo encode` against the vectors that another implementation of the format made."""

import json
import pathlib
import subprocess

import pytest

VECTORS = sorted((pathlib.Path(__file__).resolve().parents[1] / "data/mebo").glob("*.mebo"))
SAID_BY_THE_VECTORS_ONLY = {"note", "kind", "rejected_by_reference"}


def comparable(dump):
    """The dump without what the vector's author knew, and the blob does not hold: notes, and names where only their hashes
    are stored."""
    unsaid = SAID_BY_THE_VECTORS_ONLY | (set() if dump["has_metric_names"] else {"name"})
    plain = {key: value for key, value in dump.items() if key not in unsaid and key != "metrics"}
    return plain | {"metrics": [{key: value for key, value in metric.items() if key not in unsaid}
                                for metric in dump["metrics"]]}


def dump(binary, path):
    done = subprocess.run([binary, "mebo", "dump", path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_there_are_vectors():
    """All 19 of them: a test over an empty list would pass too."""
    assert len(VECTORS) == 19


@pytest.mark.parametrize("vector", VECTORS, ids=[vector.stem for vector in VECTORS])
def test_a_dump_is_what_the_vector_says_and_encodes_to_the_same_again(binary, tmp_path, vector):
    """Every bit of every value, every timestamp, name and tag comes out as the other implementation wrote them; the dump,
    encoded, is a blob that dumps to the same."""
    found = dump(binary, vector)
    expected = json.loads(vector.with_suffix(".json").read_text())
    assert comparable(found) == comparable(expected)

    again = tmp_path / vector.name
    encoded = subprocess.run([binary, "mebo", "encode", "-", "-o", again], input=json.dumps(found), capture_output=True,
                             text=True, timeout=60)
    assert encoded.returncode == 0, encoded.stderr
    second = dump(binary, again)
    second.pop("size"), found.pop("size")
    assert second == found
