# Every command we type. `make demo` shows what Piecewise does; `make test` is the whole gate, here and in CI.
.PHONY: demo book build test dist dist-check fmt lint clippy check-core wasm unit browser docs real sim bench bench-browser bench-cold bench-live bench-long fuzz notices soak setup clean

CARGO ?= cargo

demo: ## Two machines and a server, with real files, as a story in the terminal; then a page that is served until Ctrl-C
	@echo "building the server, the command line and the story: one to three minutes on two cores"
	$(CARGO) build --profile demo -p piecewise-server -p piecewise-cli -p piecewise-tests --bin piecewise-server --bin piecewise --bin demo
	target/demo/demo story demo-data
	@echo; echo "building the page"
	sh wasm/build.sh || echo "The page needs a compiler for WASM, see above; the story is in demo-data."
	test ! -f wasm/npm/engine/piecewise_wasm_bg.wasm || $(CARGO) build --profile demo -p piecewise-server
	target/demo/demo page demo-data

build: setup wasm
	$(CARGO) build --release --workspace

test: setup fmt ## All checks
	$(MAKE) -j2 wasm lint # the last step of the one keeps a single core busy
	$(MAKE) unit browser

lint:
	$(MAKE) clippy check-core docs

fmt:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy -q --workspace --all-targets -- -D warnings

# The core only computes: no runtime, no sockets.
check-core:
	! $(CARGO) tree -q -e normal -p piecewise-core -i tokio 2>/dev/null | grep .

book: ## The recipes of docs/, as pages in target/book
	command -v mdbook >/dev/null || test -x target/tools/bin/mdbook || $(CARGO) install --locked --root target/tools mdbook
	PATH="$$PWD/target/tools/bin:$$PATH" mdbook build docs

docs:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc -q --workspace --no-deps --document-private-items

unit:
	$(CARGO) build -q --workspace
	$(CARGO) test -q --workspace

wasm: ## The npm package in wasm/npm; WASM_TOOLCHAIN=auto|rustup|debian chooses the compiler
	sh wasm/build.sh

browser: ## The package and the page in a real browser
	$(CARGO) build -q --workspace
	cd tests && node --test --test-concurrency=1 browser/*.test.mjs

sim: ## Many seeds of the simulator; SEED=7 replays one, RUNS=1000 sets how many
	SEED=$(SEED) RUNS=$(or $(RUNS),2000) $(CARGO) test -q --release -p piecewise-tests --test simulation --test hard_schemas -- --nocapture

real: setup ## Real files of public packages: synced whole, edited on both sides, checked, let go as they were
	sh tests/real.sh
	$(CARGO) build -q --workspace
	$(CARGO) test -q -p piecewise-tests --features real --test real_files

bench: setup wasm ## Whole-process figures; writes BENCHMARKS.md
	$(CARGO) build -q --release --workspace
	target/release/bench BENCHMARKS.md
	target/release/many BENCHMARKS.md --tables 10000
	target/release/many BENCHMARKS.md --databases 1000 --tables 10
	ulimit -n $$(ulimit -H -n) && target/release/crowd BENCHMARKS.md --clients 10000
	node tests/browser/bench.mjs write

bench-browser: setup wasm ## Figures of the browser build; puts them into BENCHMARKS.md
	$(CARGO) build -q --release --workspace
	node tests/browser/bench.mjs write

bench-cold: setup wasm ## How soon the page is there over a slow line; puts it into BENCHMARKS.md
	$(CARGO) build -q --release -p piecewise-server
	node tests/browser/bench-cold.mjs write

bench-live: setup wasm ## Figures of live queries in the browser; puts them into BENCHMARKS.md
	node tests/browser/bench-live.mjs write

bench-long: ## One row edited 50,000 times, a feed of a million segments; puts their figures into BENCHMARKS.md
	$(CARGO) build -q --release -p piecewise-tests
	target/release/bench BENCHMARKS.md --row-edits 50000 --segments 1000000

fuzz: ## SECONDS=60 of mutated bytes for every decoder and a live link; SEED=7 replays a run, TARGET=link runs one
	FUZZ_SECONDS=$(or $(SECONDS),60) SEED=$(or $(SEED),1) TARGET=$(TARGET) $(CARGO) test -q -p piecewise-tests --test fuzz -- --nocapture

notices: ## THIRD-PARTY.md anew
	sh tests/notices.sh

soak: ## GIGABYTES=10 of rows, synced while each process is killed again and again; puts its figures into BENCHMARKS.md
	$(CARGO) build -q --release -p piecewise-tests -p piecewise-server -p piecewise-cli
	target/release/soak BENCHMARKS.md --gigabytes $(or $(GIGABYTES),10)

setup:
	@sh tests/setup.sh

dist: wasm ## Self-contained binaries with manuals and completions, Debian packages and a container's content, in dist/
	sh packaging/dist.sh

dist-check: ## What `make dist` made, in an empty root folder, as root; and the crates as they are published
	$(CARGO) test -q -p piecewise-tests --features dist --test dist
	sh packaging/package-check.sh
	$(CARGO) run -q -p piecewise-tests --bin sizes BENCHMARKS.md

clean:
	$(CARGO) clean
	rm -rf demo-data dist
