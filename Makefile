# The commands of this project. `make` alone lists them.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run test check conformance fuzz miri bench measure compare hold fmt clean

# Further options: make run ARGS='--shards 4', make compare ARGS='--quick nats'
ARGS ?=

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## build the gateway and start it with the demo page on; Ctrl-C stops it
	@scripts/install-build-tools
	@cargo build --release --bin tidegate
	@exec cargo run --quiet --release --bin tidegate -- serve --relay lobby --drain-grace 0s --drain-spread 1s $(ARGS)

test: ## run every test; installs the clients that the tests drive
	@scripts/test

check: ## formatting, clippy, documentation, dependencies: warnings are errors
	@scripts/install-build-tools
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --quiet
	scripts/deny

conformance: ## run the whole Autobahn testsuite, installed if need be, and judge it strictly
	@scripts/install-build-tools
	@scripts/install-conformance
	@cargo build --release --bin tidegate
	@scripts/conformance $(ARGS) $${CARGO_TARGET_DIR:-target}/release/tidegate

# How long, and which: make fuzz ARGS='600 inflate'
fuzz: ## fuzz every target for a minute; installs cargo-fuzz and a nightly toolchain if need be
	@scripts/fuzz $(ARGS)

miri: ## run unit tests in Miri: undefined behaviour, data races, leaks
	@scripts/miri $(ARGS)

bench: ## run the benchmarks
	@scripts/install-build-tools
	cargo bench --workspace --bench '*'

measure: ## measure against the bare kernel loop: ratios, not absolute figures
	@scripts/install-build-tools
	scripts/measure

# How many connections: make hold N=1000000
N ?= 200000

hold: ## hold N connections (200000) to one gateway, feed and verify them all
	@scripts/install-build-tools
	scripts/hold $(N)

compare: ## measure tidegate beside other servers, installed if need be: tables in docs/BENCHMARKS.md and target/compare
	@scripts/compare $(ARGS)

fmt: ## format the code
	cargo fmt --all

clean: ## remove everything that was built or installed here
	cargo clean
	rm -rf target fuzz/target tests/clients/node_modules tests/clients/.venv loadtest/peers/node-ws/node_modules loadtest/peers/python-websockets/.venv
