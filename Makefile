# chinwag: build, run, test. `make help` lists everything.

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c

.PHONY: all server client run test bench download abuse powercut torture help clean toolchain
.DEFAULT_GOAL := all

PORT ?= 4000
BLOCK ?= 60
TIMEOUT ?= 120
SEEDS ?= 1000000
MIB ?= 1024
CHUNKS ?= 64
ROUNDS ?= 5
FOLDER ?= /tmp

all: server client ## build ./server and ./client

server client: toolchain
	@cargo build --release --locked --quiet --bin $@
	@cp target/release/$@ $@.new && mv -f $@.new $@

run: server ## build and run the server: PORT=4000 BLOCK=60 TIMEOUT=120
	@echo "join from another terminal with: nc 127.0.0.1 $(PORT)   (names are in Credentials.txt)"
	@./server $(PORT) $(BLOCK) $(TIMEOUT)

test: toolchain ## everything that CI runs
	cargo fmt --all --check
	cargo clippy --locked --all-targets --quiet -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" cargo doc --locked --no-deps --quiet
	@if cargo tree --locked --edges normal,build,dev --invert tokio >/dev/null 2>&1; then \
		echo "error: an async runtime is in the tree"; exit 1; fi
	@mkdir -p target; status=0; \
		cargo test --locked --no-fail-fast 2>&1 | tee target/test.log || status=$$?; \
		awk '/^test result:/ { passed += $$4; failed += $$6; skipped += $$8 } \
			END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped; exit passed == 0 }' \
			target/test.log && exit $$status

powercut: toolchain ## 80 cuts of the power under load, and without syncs as a control (root)
	CHINWAG_POWER_ROUNDS=80 cargo test --locked --test it power -- --nocapture --test-threads 1

torture: toolchain ## 800 times kill -9 under load, and SEEDS=1000000 seeds of the simulation: hours
	CHINWAG_CRASH_ROUNDS=800 cargo test --locked --test it a_killed_server -- --nocapture
	CHINWAG_SIMULATION_SEEDS=$(SEEDS) cargo test --locked --test simulation no_seed_breaks_a_rule -- --nocapture

bench: toolchain ## measure against the least that a relay can do: a table, and target/bench/chinwag.svg
	@cargo bench --locked --quiet --bench chat -- $(BENCH)

download: toolchain ## a download of MIB=1024 in CHUNKS=64 next to nc in turns: ROUNDS=5 FOLDER=/tmp
	@command -v nc >/dev/null || { echo "error: nc is missing; on Debian: apt install netcat-openbsd"; exit 1; }
	@echo '| round | nc | nc, synced | download |'; echo '|---|---|---|---|'
	@CHINWAG_DOWNLOAD_MIB=$(MIB) CHINWAG_DOWNLOAD_CHUNKS=$(CHUNKS) CHINWAG_DOWNLOAD_ROUNDS=$(ROUNDS) \
		CHINWAG_DOWNLOAD_FOLDER=$(FOLDER) cargo test --release --locked --quiet --test it a_download_beside_netcat -- \
		--nocapture | grep --text --line-buffered -e '^|' -e '^skipped' -e panicked -e '^test result'

abuse: toolchain ## what clients that misbehave cost the others, measured: about 4 minutes
	@echo '| case | figure | bound | met |'; echo '|---|---|---|---|'
	@CHINWAG_ABUSE=full cargo test --release --locked --quiet --test it abuse:: -- --test-threads 1 --nocapture \
		| grep --text --line-buffered -e '^|' -e '^skipped' -e panicked -e '^test result'

clean: ## remove what was built
	cargo clean
	rm -f server client

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z ]*:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

toolchain:
	@command -v cargo >/dev/null || { echo "error: cargo is missing; install Rust 1.95 or later with rustup"; exit 1; }
	@command -v cc >/dev/null || { echo "error: a C compiler is missing (SQLite needs it); on Debian: apt install gcc"; exit 1; }
