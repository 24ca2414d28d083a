# Everything here needs Go alone, but for what `make packages` installs.

PACKAGES = mosquitto-clients python3-paho-mqtt nodejs node-mqtt qemu-user openssl gcc g++

.PHONY: build test packages ci race fuzz conformance generate cross clean

build: ## bin/sealmq
	go build -trimpath -o bin/sealmq ./cmd/sealmq

test: packages ci ## everything, with what it needs installed first

ci: ## everything that can run here; says what it skips and why
	.ci/run

packages: ## the Debian packages that some tests drive
	@if ! command -v apt-get >/dev/null; then \
	  echo "not installed: $(PACKAGES): there is no apt-get; tests that need them are skipped"; \
	elif [ "$$(id -u)" != 0 ]; then \
	  echo "not installed: $(PACKAGES): only root can; tests that need them are skipped"; \
	else \
	  for p in $(PACKAGES); do \
	    dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' && continue; \
	    [ -n "$$updated" ] || { apt-get -qq update || true; updated=1; }; \
	    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install $$p >/dev/null \
	      || echo "not installed: $$p: apt-get failed; tests that need it are skipped"; \
	  done; \
	fi

race: ## the Go tests with the race detector
	go test -race ./...

fuzz: ## every fuzz target for FUZZ_TIME (10m)
	CI_FUZZ_TIME=$(or $(FUZZ_TIME),10m) .ci/run fuzz

conformance: ## docs/conformance.md from the clause tags of the tests
	go test ./internal/conformance -run TestPage -update

generate: conformance ## every generated page
	go generate ./...

cross: ## the program for every supported system
	.ci/run cross

clean:
	rm -rf bin
