# Everything that the project is built, tested and shown with. Each target installs what it lacks.
BARKEEP_CACHE ?= $(HOME)/.cache/barkeep
export BARKEEP_CACHE
export BARKEEP_BED := $(BARKEEP_CACHE)/bed.env
export CARGO_TARGET_DIR := $(BARKEEP_CACHE)/target
CARGO_DENY := $(BARKEEP_CACHE)/cargo/bin/cargo-deny

.NOTPARALLEL:

.PHONY: help
help: ## Say what there is to make
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

.PHONY: demo
demo: ## Back up, reconcile and restore a throw-away cluster, step by step
	tests/bed/install DEMO
	cargo build --locked
	examples/demo $(CARGO_TARGET_DIR)/debug/barkeep

.PHONY: test
test: bed check cargo-test test-packaging ## Install what the tests need and run all of them

.PHONY: bed
bed: ## Install what the tests run against
	tests/bed/install TEST

# What tests draw is the same in every run, so that what fails is the doing of a change; `make explore` draws anew.
.PHONY: cargo-test
cargo-test: ## Run the tests against what `make bed` installed
	PROPTEST_RNG_SEED=1 cargo test --locked --all-features

.PHONY: explore
explore: ## Draw a hundred times as many cases for what the pure layers promise, other ones each time
	PROPTEST_CASES=25600 PROPTEST_MAX_GLOBAL_REJECTS=1000000 cargo test --locked --no-default-features --lib --test pure -- --skip oracle::

.PHONY: packages
packages: ## Build what this machine can build for others: deb, rpm, the files of an image
	packaging/static $(CARGO_TARGET_DIR)/static/dist/barkeep --profile dist
	cargo build --locked --profile dist
	packaging/build $(CARGO_TARGET_DIR)/dist/barkeep $(CARGO_TARGET_DIR)/static/dist/barkeep $(CARGO_TARGET_DIR)/packages

.PHONY: test-packaging
test-packaging: bed ## Install the packages into a clean root, and run what is shipped with them
	tests/bed/install PACKAGING
	packaging/static $(CARGO_TARGET_DIR)/static/debug/barkeep --all-features
	cargo build --locked --all-features
	tests/packaging/run $(CARGO_TARGET_DIR)/debug/barkeep $(CARGO_TARGET_DIR)/static/debug/barkeep

.PHONY: soak
soak: bed ## Let two services and a cron job live on one destination for ten minutes, with kills
	BARKEEP_SOAK=600 cargo test --locked --test e2e -- service:: --nocapture

.PHONY: chaos
chaos: bed ## Kill receiver, destination and PostgreSQL ten times each within five minutes under load
	BARKEEP_CHAOS=300 cargo test --locked --test e2e -- chaos:: --nocapture

.PHONY: simulate
simulate: ## Live through ten thousand made-up histories, with and without leases
	CARGO_PROFILE_DEV_OPT_LEVEL=1 BARKEEP_SEEDS=10000 cargo test --locked --no-default-features --test simulation -- --nocapture

.PHONY: coverage
coverage: ## Show which lines of what decides and of what deletes no cheap test runs
	tests/bed/install COVERAGE
	tests/coverage/run

.PHONY: mutants
mutants: ## Break the planner in fifteen hundred ways, and see that its tests notice each
	tests/bed/install MUTANTS
	tests/mutants/run

.PHONY: check
check: ## Formatting, lints, dependencies
	tests/bed/install CHECK
	cargo fmt --check
	cargo clippy --locked --all-targets --all-features -- -D warnings
	cargo clippy --locked --all-targets --no-default-features -- -D warnings
	$(CARGO_DENY) --locked check --hide-inclusion-graph bans licenses sources

.PHONY: bench
bench: ## Measure beside Barman and pgBackRest, and print the ratios
	tests/bed/install BENCH
	cargo build --locked --profile dist
	benches/run $(CARGO_TARGET_DIR)/dist/barkeep
