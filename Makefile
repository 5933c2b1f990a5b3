# What a newcomer types. `make up` and `make test` do everything that they need.
SHELL := /bin/bash
CACHE := $(or $(KONTIKI_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/kontiki)
export PATH := $(CACHE)/tools/bin:$(PATH)
# RocksDB is compiled once, not for every profile; a shell function because setup may make it first.
WITH_ROCKSDB = ROCKSDB_LIB_DIR="$$(tools/rocksdb.sh)" && export ROCKSDB_LIB_DIR ROCKSDB_STATIC=1
# The shim is part of the binary; made here it is made once for every profile.
SHIM := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)/shim/kontiki-shim
WITH_SHIM = cargo build --quiet --locked -p kontiki-shim --profile shim && export KONTIKI_SHIM="$(SHIM)"

.PHONY: setup setup-test build up down test unit simulation simulate end-to-end bench bench-chaos chaos lint fmt

setup: ; @tools/setup.sh build
setup-test: ; @tools/setup.sh test

build: setup
	@$(WITH_ROCKSDB) && $(WITH_SHIM) && cargo build --release --locked -p kontiki

up: build
	target/release/kontiki up $(ARGS)

down:
	target/release/kontiki down $(ARGS)

test: setup-test lint unit simulation end-to-end

unit: setup
	@$(WITH_ROCKSDB) && $(WITH_SHIM) && cargo test --locked --workspace --exclude kontiki-chaos-tests

# Clusters of the store under faults that follow from a seed. `make simulate SEEDS=5000` for more, `make simulate SEED=17` for one.
SIMULATION = @$(WITH_ROCKSDB) && cargo test --quiet --locked -p kontiki-store --features simulation --test simulation --

# Then mistakes made on purpose: each must be found by a check that it names.
simulation: setup
	$(SIMULATION) --seeds 200
	$(SIMULATION) --mutations

simulate: setup
	$(SIMULATION) $(if $(SEED),--seed $(SEED) --trace,--seeds $(or $(SEEDS),1000))

end-to-end: build
	@$(WITH_ROCKSDB) && $(WITH_SHIM) && files="$$(tools/test-files.sh)" && KONTIKI_TEST_FILES="$$files" KONTIKI_BINARY=$(CURDIR)/target/release/kontiki cargo test --locked -p kontiki-chaos-tests

bench: build
	@$(WITH_ROCKSDB) && $(WITH_SHIM) && cargo build --release --locked -p kontiki-store -p kontiki-client --examples
	tools/bench.sh target/release/kontiki target/release/examples/load target/release/examples/api_load target/release/examples/pod_load

# What chaos costs, and what memory is held after it: MINUTES= of `kontiki chaos run`.
bench-chaos: build
	tools/bench/chaos.sh target/release/kontiki $(or $(MINUTES),60)

# Hours of faults; SCENARIO= chooses one, SEED= replays it (chaos-tests/src/scenario/list.rs has the list).
chaos: build
	@$(WITH_ROCKSDB) && $(WITH_SHIM) && files="$$(tools/test-files.sh)" && KONTIKI_TEST_FILES="$$files" KONTIKI_BINARY=$(CURDIR)/target/release/kontiki KONTIKI_CHAOS=1 SEED=$(SEED) SCENARIO=$(SCENARIO) cargo test --locked -p kontiki-chaos-tests --test chaos -- --nocapture

lint: setup-test
	cargo fmt --all --check
	@$(WITH_ROCKSDB) && $(WITH_SHIM) && cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo deny --locked check bans licenses sources
	@$(WITH_ROCKSDB) && $(WITH_SHIM) && cargo test --locked -q -p kontiki-chaos-tests --test house

fmt:
	cargo fmt --all
