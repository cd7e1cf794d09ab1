# make demo       Tapline at work on captured traffic: needs no NIC, no root, no huge pages
# make test       all tests
# make test-web   the HTTP server with Prometheus and Alertmanager (fetches 30 MB), and its pages in Chromium: says what it skips where
#                 node, npm or Chromium are missing
# make soak       the tests that can go on for longer, for MINUTES (30) each, one after the other
# make fuzz       the fuzz targets, for MINUTES (30) each, or those that TARGETS names
# make test-nics  the broker on PCI NICs' drivers, in virtual machines: some minutes
# make bench      the benches, with their peers beside them
# make peers      Tapline beside testpmd, Open vSwitch with DPDK and tc: as root, with huge pages, ten minutes
# make compare BASE=BINARY   whether Tapline takes more time or instructions a packet than another build of it: ten minutes
# make lint fmt   what a change must pass

# Cargo is found where rustup puts it, too: a machine that has just got it has no new PATH yet.
# Programs that tests run and the machine lacks are unpacked in target/testbed (testbed/packages).
export PATH := $(PATH):$(HOME)/.cargo/bin:$(CURDIR)/target/testbed/bin
# Every test a process of its own, with cargo-nextest where it is installed: three for two cores, since brokers under test wait more than they work.
RUN_TESTS = $(if $(shell PATH="$(PATH)" command -v cargo-nextest),cargo nextest run --no-fail-fast --test-threads $$(( (3 * $$(nproc) + 1) / 2 )),\
	cargo test --no-fail-fast)

# One after the other, with what they print; nothing ends those that take long.
RUN_SOAK = $(if $(shell PATH="$(PATH)" command -v cargo-nextest),cargo nextest run --no-fail-fast --profile soak --test soak --test offline --test product,\
	cargo test --test soak -- --nocapture --test-threads 1 && cargo test --test offline fuzz:: -- --nocapture --test-threads 1 && cargo test --test product -- reloads:: explain::runs explain::differ --nocapture --test-threads 1)
MINUTES ?= 30

# deny.toml, where the program that reads it is: building cargo-deny takes longer than all of the lints.
CHECK_TREE = $(if $(shell PATH="$(PATH)" command -v cargo-deny),cargo deny --locked check licenses bans sources,\
	@echo "skipped: licences, doubles and sources of dependencies (deny.toml): no cargo-deny here; cargo install cargo-deny --locked")

# Tests add to it what they skip and why (testbed/skip): runners show nothing of tests that pass.
SKIPPED = $(CURDIR)/target/skipped

.PHONY: all demo test test-web soak fuzz test-nics bench peers compare lint fmt packages

all: packages
	cargo build --release

demo: packages
	cargo build --release --package tapline --package tapline-traffic
	@mkdir -p demo-out
	@echo
	cargo run --quiet --release --package tapline-traffic -- demo-out/traffic.pcap
	cargo run --quiet --release -- run pipelines/demo.pipe --exit-idle 500ms --stats demo-out/stats.json
	@echo
	@echo "pipelines/demo.pipe says what goes where; look at it with: tcpdump -nr demo-out/web.pcap"
	@ls -l demo-out

test: packages
	@testbed/packages test
	@mkdir -p target && : >$(SKIPPED)
	TAPLINE_SKIPPED=$(SKIPPED) $(RUN_TESTS) --workspace; status=$$?; \
	testbed/skip/list $(SKIPPED); exit $$status

test-web: packages
	@testbed/packages test web
	@mkdir -p target && : >$(SKIPPED)
	TAPLINE_SKIPPED=$(SKIPPED) $(RUN_TESTS) --test product web::; status=$$?; \
	testbed/skip/list $(SKIPPED); testbed/web/run $(SHOTS) && exit $$status

soak: packages
	@testbed/packages test
	export TAPLINE_MINUTES=$(MINUTES) TAPLINE_RELOADS=500 && $(RUN_SOAK)

fuzz: packages
	testbed/fuzz/run $(MINUTES) $(TARGETS)

# SHOTS=FOLDER keeps a picture of each page and state
test-nics: packages
	cargo build --release --bin tapline --example nic_clock
	testbed/nics/run

bench: packages
	@testbed/packages bench
	cargo bench

peers: packages
	@testbed/packages bench
	cargo build --release --bin tapline
	testbed/peers/run

compare: packages
	$(if $(BASE),,$(error BASE=BINARY has to name another build of tapline))@testbed/packages bench
	cargo build --release --bin tapline
	testbed/peers/compare $(if $(CONTROL),--control) "$(BASE)" $(ROWS)

lint: packages
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps
	$(CHECK_TREE)

fmt:
	cargo fmt --all

packages:
	@testbed/packages build
