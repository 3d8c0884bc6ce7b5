# The front door. Everything real is in meson.build and scripts/.
BUILD ?= build

.PHONY: all setup build demo test test-full sim sim-plants bench test-cassandra test-cluster test-fab chaos load stress fuzz lint fmt clean help

all: build

help:
	@echo "make demo    set up, build, and judge 86 real etch wafers: the faults found, in about a minute"
	@echo "make test    set up, build, and run every test"
	@echo "make test-full   the cluster's tests at full size: 30 defenders, 2,400 chambers, with a table of what they measure"
	@echo "make test-cassandra   run the store's contract test on a real Cassandra node"
	@echo "make test-cluster   kill Cassandra nodes under load, three and two datacentres; TLS and credentials"
	@echo "make test-fab   2,000 tools through collectors, NATS, defenders and Cassandra for 5 minutes while one of each is killed"
	@echo "make chaos   test-full, test-cluster and test-fab: everything that kills at full size"
	@echo "make load    a steady 300 contexts a second for 10 minutes;  make stress   3,000 for 30 minutes"
	@echo "make fuzz    damaged files and messages, and collectors torn apart, for minutes under the sanitizers"
	@echo "make build   build/chamberlain"
	@echo "make sim     simulate thousands of cluster-hours with faults for a minute (make sim-plants: it finds planted bugs)"
	@echo "make bench   measure, beside the peers"
	@echo "make lint    formatting and static analysis;  make fmt   format the sources"
	@echo "make clean   remove what was built"

setup:
	@scripts/setup build

build: setup
	@test -e $(BUILD)/build.ninja || meson setup $(BUILD) -Dtests=false -Dwerror=false >$(BUILD).log 2>&1 \
		|| { cat $(BUILD).log; exit 1; }
	@rm -f $(BUILD).log
	@ninja -C $(BUILD) --quiet chamberlain

demo: build
	@scripts/demo $(BUILD)/chamberlain

test:
	@scripts/test

test-full:
	@scripts/test-full

test-cassandra:
	@scripts/test-cassandra

test-cluster:
	@scripts/test-cluster

test-fab:
	@scripts/test-fab

chaos: test-full test-cluster test-fab

stress load: build
	@bench/load/run $(BUILD) $(if $(filter load,$@),10 300,30 3000) --no-scaling

fuzz:
	@scripts/fuzz

sim sim-plants: build
	@ninja -C $(BUILD) --quiet $@
	@scripts/sim $(if $(filter sim-plants,$@),--plants) $(BUILD)

bench:
	@scripts/bench

lint:
	@scripts/setup lint
	@scripts/lint

fmt:
	@scripts/setup lint
	@clang-format -i $$(git ls-files '*.c' '*.h')

clean:
	rm -rf build build-* demo
