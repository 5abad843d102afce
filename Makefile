# Every command we type. `make demo` shows what Piecewise does; `make test` is the whole gate, here and in CI.
.PHONY: demo build test fmt clippy check-core unit docs sim bench setup clean

CARGO ?= cargo

demo: setup ## Two machines and a server, with real files, as a story in the terminal
	$(CARGO) build -q --release --workspace
	target/release/demo demo-data

build: setup
	$(CARGO) build --release --workspace

test: setup fmt clippy check-core docs unit ## All checks

fmt:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy -q --workspace --all-targets -- -D warnings

# The core only computes: no runtime, no sockets.
check-core:
	! $(CARGO) tree -q -e normal -p piecewise-core -i tokio 2>/dev/null | grep .

docs:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc -q --workspace --no-deps --document-private-items

unit:
	$(CARGO) build -q --workspace
	$(CARGO) test -q --workspace

sim: ## Many seeds of the simulator; SEED=7 replays one, RUNS=1000 sets how many
	SEED=$(SEED) RUNS=$(or $(RUNS),2000) $(CARGO) test -q --release -p piecewise-tests --test simulation -- --nocapture

bench: setup ## Whole-process figures; writes BENCHMARKS.md
	$(CARGO) build -q --release --workspace
	target/release/bench BENCHMARKS.md

setup:
	@sh tests/setup.sh

clean:
	$(CARGO) clean
	rm -rf demo-data
