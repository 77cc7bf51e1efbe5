# Everything that people and CI do with this tree. `make` alone says what there is.

CARGO ?= cargo
# The lock file decides the versions; a build that would change it fails instead.
LOCKED := --locked
ONLY ?=

.DEFAULT_GOAL := help
.PHONY: help test lint fmt run demo bench chaos fuzz live tools components postgresql redis rabbitmq

help: ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

test: tools components postgresql redis rabbitmq ## everything CI runs: format, lints, the binary, unit, conformance, system and tidy tests
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets $(LOCKED) -- -D warnings
	$(CARGO) build $(LOCKED)
	$(CARGO) test --workspace $(LOCKED)
	@echo "not part of this version: compose tests"

lint: tools components ## format, lints and the shape of the tree; licences too where cargo-deny is installed
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets $(LOCKED) -- -D warnings
	$(CARGO) test --package troupe-tests --test tidy $(LOCKED)
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny check licenses bans sources; \
	else echo "skipped: cargo-deny is not installed (cargo install cargo-deny --locked)"; fi

fmt: components ## formats the tree
	$(CARGO) fmt --all

run: tools ## a node on embedded parts: Slack on 127.0.0.1:8080, API on 127.0.0.1:8081
	$(CARGO) run --release $(LOCKED) -- up

demo: tools ## a Slack command through a crash to its reply, with nothing installed
	$(CARGO) run --release $(LOCKED) -- demo

bench: tools ## measures, beside a baseline in the same run; ONLY=name for one; writes target/bench.json
	$(CARGO) build --release $(LOCKED)
	$(CARGO) run --release $(LOCKED) --package troupe-tests --bin bench -- $(ONLY)

chaos: tools postgresql redis rabbitmq ## faults for as long as it takes: servers away, lines cut and sick; `make test` has the short ones
	$(CARGO) build $(LOCKED)
	TROUPE_CHAOS=long $(CARGO) test $(LOCKED) --package troupe-tests --test postgres commit
	TROUPE_CHAOS=long $(CARGO) test $(LOCKED) --package troupe-tests --test postgres lonely
	TROUPE_CHAOS=long $(CARGO) test $(LOCKED) --package troupe-tests --test system -- chaos outages --nocapture --test-threads 1

fuzz: tools ## ten thousand damaged agent specs: none makes the reader panic, hang or swell; TROUPE_TEST_SEED=… repeats a run
	TROUPE_TEST_ROUNDS=10000 $(CARGO) test --release $(LOCKED) --package troupe-runtime --lib mutations -- --nocapture

live: tools ## a small real model on this machine, through the openai provider (needs python3; builds it once)
	tests/live/prepare.sh target/live
	$(CARGO) build $(LOCKED)
	$(CARGO) run $(LOCKED) --package troupe-tests --bin live -- target/live

# A C compiler, for SQLite and the TLS library; cargo itself comes from rustup.
tools:
	@command -v $(CARGO) >/dev/null || { echo "cargo is missing: install Rust 1.95 or newer from https://rustup.rs" >&2; exit 1; }
	@command -v cc >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends gcc libc6-dev; \
	  else \
	    echo "a C compiler is missing: apt-get install gcc libc6-dev (or your system's like)" >&2; exit 1; \
	  fi; }

# For the store's tests, which start a server of their own; the package's own server is not used.
postgresql:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends postgresql; \
	  else \
	    echo "PostgreSQL 15 or newer is missing, its tests are skipped: apt-get install postgresql (or your system's like)" >&2; \
	  fi; }

# For the tests of the cache, in the same way.
redis:
	@command -v redis-server >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends redis-server; \
	  else \
	    echo "Redis is missing, its tests are skipped: apt-get install redis-server (or your system's like)" >&2; \
	  fi; }

# For the tests of the bus. The package starts a broker of its own where it may; it is not used, and not needed.
rabbitmq:
	@ls /usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server >/dev/null 2>&1 || command -v rabbitmq-server >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends rabbitmq-server; \
	  else \
	    echo "RabbitMQ 3.10 or newer is missing, its tests are skipped: apt-get install rabbitmq-server (or your system's like)" >&2; \
	  fi; }

components:
	@for part in fmt clippy; do $(CARGO) $$part --version >/dev/null 2>&1 || missing="$$missing $$part"; done; \
	if [ -n "$$missing" ]; then echo "missing:$$missing; run: rustup component add rustfmt clippy" >&2; exit 1; fi
