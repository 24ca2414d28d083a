.PHONY: build test bench packages race fuzz crash soak conformance generate cross clean

build: ## bin/sealmq
	CGO_ENABLED=0 go build -trimpath -o bin/sealmq ./cmd/sealmq

test: ## everything, with what it needs installed first; says what it skips and why
	.ci/run

bench: ## docs/benchmarks.md: the same workloads against this broker, Debian's Mosquitto and others (see bench/README.md)
	go run ./bench/sidebyside --install $(BENCHFLAGS)

packages: ## the Debian packages that some tests drive
	.ci/run packages

race: ## the Go tests with the race detector
	go test -race ./...

fuzz: ## every fuzz target for FUZZ_TIME (10m)
	CI_FUZZ_TIME=$(or $(FUZZ_TIME),10m) .ci/run fuzz

crash: ## kill -9 the broker 10 times under load and check what it had acknowledged (docs/durability.md)
	cd test && go test -count=1 -v ./crash $(CRASHFLAGS)

soak: ## the long forms: 200 kills with Debian's mosquitto beside, ten minutes of renewals, certificates swapped for minutes
	cd test && go test -count=1 -v -timeout 2h ./crash -run 'Sealmq|Mosquitto' -kills 25 -seeds 8 -compare $(CRASHFLAGS)
	cd test && go test -count=1 -v -timeout 30m ./acme -run 'TestRenewals$$' -long
	cd test && go test -count=1 -v -timeout 30m ./identity -run 'Revoked|Rotation|Rollover' -long
	cd test && go test -count=1 -v -timeout 30m ./tlsmatrix -run TestProfiles -long
	go test -count=1 -v -timeout 30m ./certs -run Rotation -args -long

conformance: ## docs/conformance.md from the clause tags of the tests
	go test ./internal/conformance -run TestPage -update

generate: conformance ## every generated page
	go generate ./...

cross: ## the program for every supported system
	.ci/run cross

clean:
	rm -rf bin
