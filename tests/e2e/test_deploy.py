"""deploy/kubernetes and deploy/Dockerfile, as far as they can be checked without a cluster: the schemas of Kubernetes, the
binary's own options, the sources' environment variables, and what a rolling update and a drain rest on."""

import contextlib
import re
import signal
import subprocess
import time
import urllib.request

import kubernetes_validate
import pytest
import yaml

from cluster import Cluster
from fab import free_port, until

VERSIONS = ("1.30", "1.33")
OPERATORS = {"ScaledObject", "PodMonitor", "CassandraDatacenter", "Kustomization"}  # kinds of others, without a schema here
DRAIN_S = 25  # what a defender takes at most after SIGTERM


@pytest.fixture(scope="module")
def folder(pytestconfig):
    return pytestconfig.rootpath / "deploy/kubernetes"


@pytest.fixture(scope="module")
def documents(folder):
    """(file, document) of every manifest."""
    return [(file.name, document) for file in sorted(folder.glob("*.yaml")) if file.name != "nats-values.yaml"
            for document in yaml.safe_load_all(file.read_text())]


@pytest.fixture(scope="module")
def deployments(documents):
    return {document["metadata"]["name"]: document for _, document in documents if document["kind"] == "Deployment"}


def pods(documents):
    for _, document in documents:
        if document["kind"] in ("Deployment", "Job"):
            yield document["metadata"]["name"], document["spec"]["template"]["spec"]


def test_every_manifest_fits_its_schema(documents):
    checked = 0
    for file, document in documents:
        if document["kind"] in OPERATORS:
            continue
        for version in VERSIONS:
            kubernetes_validate.validate(document, version, strict=True)
        checked += 1
    assert checked > 15


def test_the_schema_check_can_fail(deployments):
    broken = yaml.safe_load(yaml.safe_dump(deployments["defenders"]))
    broken["spec"]["strategy"]["rollingUpdate"]["maxSurgee"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[0], strict=True)


def test_every_file_is_applied_or_an_alternative(folder):
    applied = set(yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"])
    there = {file.name for file in folder.glob("*.yaml")}
    assert applied <= there
    assert there - applied == {"kustomization.yaml", "scaling-hpa.yaml", "nats-values.yaml", "cassandra-datacenter.yaml"}


def test_arguments_are_options_of_the_binary(documents, binary):
    for name, pod in pods(documents):
        for container in pod["containers"]:
            words = [word for word in container["args"] if not word.startswith("-") and "/" not in word]
            help_text = subprocess.run([binary, *words, "--help"], capture_output=True, text=True, check=True).stdout
            known = set(re.findall(r"^  --([\w-]+)", help_text, re.MULTILINE))
            given = {word[2:].split("=")[0] for word in container["args"] if word.startswith("--")}
            assert given <= known, f"{name}: {given - known} are no options of {words}"


def test_variables_are_those_that_the_sources_read(folder, pytestconfig):
    read = set()
    for file in (pytestconfig.rootpath / "src").rglob("*.c"):
        read |= set(re.findall(r'"(CHAMBERLAIN_\w+)"', file.read_text()))
    config = next(yaml.safe_load_all((folder / "config.yaml").read_text()))["data"]
    assert config and set(config) <= read


def test_secrets_are_files_and_their_paths_are_mounted(documents, folder):
    config = next(yaml.safe_load_all((folder / "config.yaml").read_text()))["data"]
    paths = {name: path for name, path in config.items() if path.startswith("/")}
    assert len(paths) == 4
    assert not [document for _, document in documents if document["kind"] == "Secret"]
    for name, pod in pods(documents):
        container, = pod["containers"]
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        assert all(mount["readOnly"] for mount in mounts.values()), name
        assert {mount["name"] for mount in mounts.values()} == {volume["name"] for volume in pod["volumes"]}, name
        if name in ("defenders", "collectors", "web"):
            assert all(any(path.startswith(f"{mount}/") for mount in mounts) for path in paths.values()), name
        for variable in container.get("env", []):
            assert "value" not in variable and "secretKeyRef" not in variable["valueFrom"], name


def test_containers_have_no_rights(documents):
    for name, pod in pods(documents):
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", name
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"], name
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"] and container["resources"]["requests"]["cpu"]
            assert ":latest" not in container["image"] and ":" in container["image"]


@pytest.mark.parametrize("name", ["defenders", "collectors"])
def test_a_rolling_update_rebalances_nothing(deployments, name):
    """New pods first; they show another version, so they stand by; an old one goes only when one is ready."""
    spec = deployments[name]["spec"]
    update = spec["strategy"]["rollingUpdate"]
    assert update["maxUnavailable"] == 0 and update["maxSurge"] != 0
    pod = spec["template"]["spec"]
    container, = pod["containers"]
    assert "--version-label=$(TEMPLATE)" in container["args"]
    assert "--expected" not in " ".join(container["args"])  # a newcomer would stand by for ever
    hashes = {entry["name"]: entry["valueFrom"]["fieldRef"]["fieldPath"] for entry in container["env"]}
    assert hashes == {"TEMPLATE": "metadata.labels['pod-template-hash']"}
    assert pod["terminationGracePeriodSeconds"] >= DRAIN_S + 5


def test_probes_and_ports_are_those_of_the_roles(deployments):
    for name, deployment in deployments.items():
        container, = deployment["spec"]["template"]["spec"]["containers"]
        port, = container["ports"]
        assert f"--http-port={port['containerPort']}" in container["args"] and "--http-bind=0.0.0.0" in container["args"]
        assert container["livenessProbe"]["httpGet"] == {"path": "/health/live", "port": port["name"]}, name
        assert container["readinessProbe"]["httpGet"] == {"path": "/health/ready", "port": port["name"]}, name


def test_every_deployment_has_a_disruption_budget_that_lets_nodes_be_drained(deployments, documents):
    budgets = {document["metadata"]["name"]: document["spec"] for _, document in documents
               if document["kind"] == "PodDisruptionBudget"}
    assert set(budgets) == set(deployments)
    for name, budget in budgets.items():
        assert budget["selector"] == {"matchLabels": deployments[name]["spec"]["selector"]["matchLabels"]}
        if "minAvailable" in budget:
            assert budget["minAvailable"] < deployments[name]["spec"]["replicas"], f"{name}: nothing may be evicted"


def test_the_autoscalers_follow_the_same_series_within_the_limits(deployments, documents, pytestconfig):
    rules = yaml.safe_load((pytestconfig.rootpath / "deploy/prometheus/rules/scaling.yml").read_text())
    recorded = {rule["record"] for group in rules["groups"] for rule in group["rules"]}
    scaled = next(document["spec"] for _, document in documents if document["kind"] == "ScaledObject")
    hpa = next(document["spec"] for _, document in documents if document["kind"] == "HorizontalPodAutoscaler")
    trigger, = scaled["triggers"]
    assert re.findall(r"chamberlain:[\w:]+", trigger["metadata"]["query"]) == ["chamberlain:scale:ratio"]
    assert "chamberlain:scale:ratio" in recorded
    assert "replicas" not in deployments["defenders"]["spec"], "each apply would undo the autoscaler"
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (hpa["minReplicas"], hpa["maxReplicas"])
    assert scaled["scaleTargetRef"]["name"] == hpa["scaleTargetRef"]["name"] == "defenders"
    assert scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == hpa["behavior"]
    for direction in hpa["behavior"].values():
        policy, = direction["policies"]
        assert policy["value"] * 3600 // policy["periodSeconds"] <= 2, "two rebalances an hour"


# --- what Kubernetes would do, done here ---

class Pod:
    """A defender as a pod runs it: no seat that outlives it, no number of members, probes over HTTP."""

    def __init__(self, cluster, version):
        self.port = free_port()
        self.process = cluster.start_member("--version-label", version, "--http-port", self.port)

    def is_ready(self):
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health/ready", timeout=1).status == 200
        return False


def test_a_rollout_with_surge_moves_nothing(binary, tmp_path, figures):
    """Four of one version; two of the next come up, are ready while they stand by, and two of the old are told to stop; then
    again. As the Deployment's surge does it, with contexts flowing."""
    cluster = Cluster(binary, tmp_path / "rollout")
    with contextlib.closing(cluster):
        cluster.prepare(chambers=24, rate=40)
        cluster.start_nats()
        cluster.observe()
        old = [Pod(cluster, "old") for _ in range(4)]
        cluster.make_flow().announce_each_chamber()
        cluster.time_until_shared(time.monotonic(), lambda: len(ids := cluster.ids()) == 4 and ids)
        cluster.wait_until_settled()
        flowing, before, header = cluster.begin_flow(), cluster.owners(), cluster.map()
        began, new, exits = time.monotonic(), [], []
        for _ in range(2):
            surge = [Pod(cluster, "new") for _ in range(2)]
            until(lambda: all(pod.is_ready() for pod in surge), "the new ones to be ready", 20)
            assert [cluster.state(pod.process) for pod in surge] == ["STANDBY", "STANDBY"]
            leaving, old = old[:2], old[2:]
            since = cluster.end([pod.process for pod in leaving], signal.SIGTERM)
            for pod in leaving:
                assert pod.process.wait(30) == 0
            exits.append(time.monotonic() - since)
            new += surge
            until(lambda: len(cluster.ids()) == 4, "four at work again", 20)
        took_s = time.monotonic() - began
        cluster.assert_whole()
        after = cluster.map()
        figures.add("4 x 24", "rollout with surge", "took", f"{took_s:.1f} s")
        figures.add("4 x 24", "rollout with surge", "SIGTERM to exit, the slowest", f"{max(exits):.2f} s", "60 s", "2 s")
        figures.add("4 x 24", "rollout with surge", "longest wait of a context",
                    f"{cluster.flow.longest_wait_s(flowing):.2f} s", goal="0.5 s")
        assert cluster.owners() == before
        assert (after["rebalances"], after["emergencies"]) == (header["rebalances"], header["emergencies"])
        assert {member["version"] for member in cluster.status()["members"]} == {"new"}


# --- the image ---

def stages(text):
    """The Dockerfile as (base, name, instructions), continuation lines joined."""
    found = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found.append((base, name, []))
        elif word and not word.startswith("#"):
            found[-1][2].append((word, rest))
    return found


def installed(instructions):
    text = " ".join(rest for word, rest in instructions if word == "RUN" and "/driver/*.deb" not in rest)
    return set(re.search(r"--no-install-recommends\s+(.*?)\s+&&", text).group(1).split())


def test_the_image_is_built_from_what_the_build_needs(pytestconfig, binary):
    root = pytestconfig.rootpath
    driver, build, final = stages((root / "deploy/Dockerfile").read_text())
    assert driver == ("scratch", "driver", [])
    wanted = re.search(r'APT_BUILD="(.*?)"', (root / "scripts/dependencies.conf").read_text(), re.DOTALL).group(1).split()
    assert installed(build[2]) == {*wanted, "libnats-dev"}
    assert {word for word, _ in final[2]} == {"RUN", "COPY", "USER", "ENTRYPOINT", "CMD"}
    assert dict(final[2])["USER"] == "10001:10001"
    assert dict(final[2])["COPY"].startswith("--from=build")


def test_the_image_has_every_library_of_the_binary(pytestconfig, binary):
    """By the name of the library: libcurl.so.4 is in libcurl4, whatever the suite appends."""
    packages = installed(stages((pytestconfig.rootpath / "deploy/Dockerfile").read_text())[2][2])
    needed = re.findall(r"NEEDED\s+(\S+)", subprocess.run(["objdump", "-p", binary], capture_output=True, text=True, check=True).stdout)
    assert needed
    for library in needed:
        stem = library.split(".so")[0]
        if stem in ("libc", "libm", "ld-linux-x86-64", "libcassandra", "libnats"):
            continue
        of = {"libsqlite3": "sqlite3", "libyaml-0": "yaml-0", "libz": "zlib1g", "libcrypto": "libssl", "libprotobuf-c": "protobuf-c"}
        assert [package for package in packages if of.get(stem, stem) in package], f"{library}: no package has it"
