# Thin targets: each is a line that one could type.

GO      ?= go
FUZZ    ?= 30s
SOAK    ?= 1000000

.PHONY: controlplane build demo test platforms race fuzz bench lint golden soak ci clean

build: ## the binary, also as kubectl plug-in
	$(GO) build -trimpath -o bin/picket ./cmd/picket
	ln -sf picket bin/kubectl-picket

controlplane: ## a real control plane for the tests of the agent, which skip without it; ten minutes from nothing
	$(MAKE) -C controlplane

demo: build ## the tutorial: its last step as a matrix, and all steps proved by packets
	bin/picket matrix -R -f examples/environments
	bin/picket prove -f examples/environments/cluster $(foreach n,1 3 4 5 6 7,--step examples/environments/step$(n))

test: ## everything that must pass before a commit
	@out=$$(gofmt -l cmd examples internal); test -z "$$out" || { echo "not gofmt-ed:"; echo "$$out"; exit 1; } >&2
	$(GO) vet ./...
	$(GO) tool -modfile=tools.mod gotestsum --format pkgname-and-test-fails -- ./... # counts what was skipped, and why

platforms: ## what holds on other systems, as far as can be said from here
	GOOS=darwin GOARCH=arm64 $(GO) vet ./...
	GOOS=windows GOARCH=amd64 $(GO) build -o /dev/null ./cmd/picket

race: ## packages with goroutines, under the race detector
	$(GO) test -race ./internal/agent/... ./internal/cli/... ./internal/flow/... ./internal/source/...

fuzz: ## each fuzz target for FUZZ
	@.ci/fuzz $(FUZZ)

bench: ## compare two runs with benchstat
	$(GO) test -run '^$$' -bench . -benchmem ./internal/...

lint: ## staticcheck, as pinned in tools.mod
	$(GO) tool -modfile=tools.mod staticcheck ./...

golden: ## rewrite golden sections and generated pages; read the difference before you commit
	GOLDEN_UPDATE=1 $(GO) test -p 1 -count=1 ./examples ./internal/...

soak: ## compiler against the literal reading, and the kernel against both, SOAK verdicts each
	PICKET_SOAK=$(SOAK) $(GO) test -count=1 -timeout 2h -run '^TestSoak$$' -v ./internal/compile
	PICKET_SOAK=$(SOAK) $(GO) test -count=1 -timeout 2h -run '^TestProve' -v ./internal/prove

ci:
	.ci/run

clean:
	rm -rf bin
