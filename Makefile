# `make` alone prints what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

GO ?= go
BENCH_COUNT ?= 6
TEMPORAL_VERSION := 1.5.1
# A mirror, or file:///DIR, where the database itself cannot be reached.
VULN_DB ?= https://vuln.go.dev
# The release before state pages and before closing in one pass.
OLDER ?= 6cbcdfc
# Which build this is: Go itself does not say so in every kind of checkout.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
ldflags := $(if $(VERSION),-ldflags '-X millrace/internal/build.version=$(VERSION)')
# Where the servers are is for the integration tests to say, not for whoever's shell this is.
no_servers := env -u MILLRACE_KAFKA_BROKERS -u MILLRACE_REDIS_ADDRS -u TEMPORAL_ADDRESS -u TEMPORAL_NAMESPACE
# Real servers: those the environment names, or the native ones of `make servers`.
real_servers := if [[ -z "$${MILLRACE_KAFKA_BROKERS:-}" ]]; then variables=$$(tools/servers.sh up); eval "$$variables"; fi

# Packages under tests that use no server, or start their own: another run of them beside real ones would show nothing new.
no_server_tests := imports|model|observability|oracle|parquet|replay

.PHONY: help run test test-real test-parquet chaos chaos-mixed fixtures-older stuck secure bench bench-compare bench-peers bench-peers-docs bench-go lint vuln fmt build servers servers-down compose-env clean

help: ## print this
	@awk 'BEGIN {FS = ":.*## "} /^[a-z\/-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build bin/temporal ## run the flights example on embedded servers until Ctrl-C
	@exec bin/millrace dev --spec examples/flights/flights.yaml --feed examples/flights/flights-2001-01.jsonl.gz

build: ## build bin/millrace and bin/worker
	@tools/build.sh bin/millrace $(GO) build -v -trimpath $(ldflags) -o bin/millrace ./starter
	@tools/build.sh bin/worker $(GO) build -v -trimpath $(ldflags) -o bin/worker ./worker

test: bin/temporal ## run all tests with the race detector, on embedded servers
	@$(no_servers) $(GO) test -race -shuffle=on -timeout 25m ./...
	@$(GO) test -timeout 25m -run 'Mutants|Redundant' ./tests/model # these without the race detector

test-real: bin/temporal ## run the integration tests against real servers
	@$(real_servers); $(GO) test -race -shuffle=on -count=1 -p 1 -timeout 25m $$($(GO) list ./tests/... | grep -vE '/($(no_server_tests))$$')

test-parquet: ## read archived files with DuckDB and pandas, installed by pip, and compare them with what was published
	@GO='$(GO)' tests/parquet/run.sh

chaos: bin/temporal ## run the fixed schedules of faults; SEEDS=3,17 those, FRESH=20 so many new ones, JSON=FILE a report
	@$(GO) test -c -trimpath -o bin/chaos.test ./tests/chaos
	@cd tests/chaos && env -u MILLRACE_REDIS_ADDRS -u TEMPORAL_ADDRESS -u TEMPORAL_NAMESPACE ../../bin/chaos.test -test.run '^TestSeeds$$' \
		$(if $(SEEDS)$(FRESH),,-fixed) $(if $(SEEDS),-seeds '$(SEEDS)') $(if $(FRESH),-fresh '$(FRESH)') $(if $(JSON),-json '$(abspath $(JSON))')

chaos-mixed: bin/temporal ## run schedules with workers of an older release, then of both, then of this one; OLDER=COMMIT, SEEDS=3,17, JSON=FILE
	@tools/older.sh '$(OLDER)' bin/older
	@$(GO) test -c -trimpath -o bin/chaos.test ./tests/chaos
	@cd tests/chaos && env -u MILLRACE_REDIS_ADDRS -u TEMPORAL_ADDRESS -u TEMPORAL_NAMESPACE ../../bin/chaos.test -test.run '^TestSeeds$$' \
		-older '$(abspath bin/older)' $(if $(SEEDS)$(FRESH),,-seeds 1,2,3,4,5,6,7,8) $(if $(SEEDS),-seeds '$(SEEDS)') $(if $(FRESH),-fresh '$(FRESH)') \
		$(if $(JSON),-json '$(abspath $(JSON))')

fixtures-older: bin/temporal ## record anew the state of an older release that the tests take up; OLDER=COMMIT
	@tools/older.sh '$(OLDER)' bin/older
	@$(no_servers) $(GO) test -count=1 -v ./tests/integration -run '^TestRecordOlder$$' -older '$(abspath bin/older)'

stuck: bin/temporal ## bring every state about that can last (docs/stuck-states.md), look at it, and go the way out; 8 to 15 minutes
	@$(GO) test -count=1 -timeout 20m ./tests/stuck -all

secure: bin/temporal ## try every login and every fail-over on servers that demand them (docs/security.md); about 8 minutes
	@MILLRACE_TEST_LONG=1 $(GO) test -count=1 -v -timeout 25m ./tests/secure

observability: bin/temporal ## hold dashboards and alerts against a long run, and alerts against faults; 6 minutes
	@tools/need.sh prometheus prometheus; tools/need.sh prometheus-pushgateway prometheus-pushgateway
	@MILLRACE_TEST_LONG=1 $(GO) test -count=1 -timeout 20m -v ./tests/observability

pictures: bin/temporal ## draw docs/img/dashboard-*.png anew, from a run of four minutes
	@tools/need.sh prometheus prometheus; tools/need.sh prometheus-pushgateway prometheus-pushgateway
	@GO='$(GO)' tools/dashboards/draw.sh

bench: build bin/temporal ## measure the pipeline on embedded and on real servers; WORKLOAD=all or one of millrace bench --help
	@echo "== embedded servers"; $(no_servers) bin/millrace bench $(if $(WORKLOAD),--workload $(WORKLOAD))
	@echo "== real servers"; $(real_servers); bin/millrace bench $(if $(WORKLOAD),--workload $(WORKLOAD))

bench-compare: build ## measure the build in the directory BASE and this one in turns on real servers; ROUNDS=3
	@bench/compare.sh '$(BASE)' bin $(if $(ROUNDS),--rounds $(ROUNDS))

bench-peers: build bin/temporal ## compare with Jet, Flink, Kafka Streams and Go by hand (bench/peers); ROUNDS, WORKLOADS, ENGINES; up to 2 h
	@GO='$(GO)' bench/peers/run.sh

bench-peers-docs: ## put table and plots of the latest comparison into docs/; PEERS_RESULTS=DIR of that one
	@bench/peers/publish.sh

bench-go: bin/benchstat ## run the Go benchmarks BENCH_COUNT times and summarise them
	@$(GO) test -run '^$$' -bench . -benchmem -count $(BENCH_COUNT) ./pipeline/... | tee bin/bench.txt
	@bin/benchstat bin/bench.txt

lint: bin/golangci-lint bin/workflowcheck ## check format, vet, linters, import rules and workflow determinism
	@unformatted=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')); \
		if [[ -n "$$unformatted" ]]; then echo "not formatted, run make fmt:"; echo "$$unformatted"; exit 1; fi
	@$(GO) vet ./...
	@bin/golangci-lint run --allow-parallel-runners ./...
	@bin/workflowcheck -config tools/lint/workflowcheck.yaml ./workflows/...

vuln: bin/govulncheck ## look the code and its dependencies up in Go's database of vulnerabilities; its answer changes by itself
	@tools/vuln.sh '$(VULN_DB)'

fmt: ## format the Go files
	@gofmt -w $$(git ls-files --cached --others --exclude-standard '*.go')

servers: bin/temporal ## start real servers on loopback: redis-server, Apache Kafka 4, Temporal
	@tools/servers.sh up

servers-down: ## stop them; their data stays in .servers/
	@tools/servers.sh down

compose-env: ## print the variables that point millrace at docker-compose.yaml's servers
	@echo 'export MILLRACE_KAFKA_BROKERS=localhost:9092 MILLRACE_REDIS_ADDRS=localhost:6379'
	@echo 'export TEMPORAL_ADDRESS=localhost:7233 TEMPORAL_NAMESPACE=default'

clean: ## stop the servers, remove their data and everything built except bin/temporal
	@tools/servers.sh clean
	@find bin -mindepth 1 -maxdepth 1 -not -name temporal -exec rm -rf {} + 2>/dev/null || true
	@rm -rf .millrace

bin/temporal: tools/go.mod tools/go.sum
	@echo "building Temporal's development server into bin/temporal; this takes a few minutes, once ..."
	@mkdir -p bin
	@cd tools && ./build.sh bin/temporal $(GO) build -v -trimpath \
		-ldflags '-s -w -X github.com/temporalio/cli/temporalcli.Version=$(TEMPORAL_VERSION)' \
		-o ../bin/temporal.part github.com/temporalio/cli/cmd/temporal
	@mv bin/temporal.part $@

bin/golangci-lint: tools/lint/go.mod tools/lint/go.sum
	@echo "building golangci-lint into bin/; this takes a minute or two, once ..."
	@mkdir -p bin
	@cd tools/lint && ../build.sh bin/golangci-lint $(GO) build -v -trimpath -ldflags '-s -w' \
		-o ../../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

bin/workflowcheck: tools/lint/go.mod tools/lint/go.sum
	@mkdir -p bin
	@cd tools/lint && ../build.sh bin/workflowcheck $(GO) build -v -trimpath -o ../../$@ go.temporal.io/sdk/contrib/tools/workflowcheck

bin/govulncheck: tools/lint/go.mod tools/lint/go.sum
	@mkdir -p bin
	@cd tools/lint && ../build.sh bin/govulncheck $(GO) build -v -trimpath -o ../../$@ golang.org/x/vuln/cmd/govulncheck

bin/benchstat: tools/lint/go.mod tools/lint/go.sum
	@mkdir -p bin
	@cd tools/lint && ../build.sh bin/benchstat $(GO) build -v -trimpath -o ../../$@ golang.org/x/perf/cmd/benchstat
