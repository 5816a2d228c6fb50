# Thin targets: each is a line that one could type.

GO      ?= go
FUZZ    ?= 30s
SOAK    ?= 1000000

.PHONY: build demo test platforms race fuzz bench lint golden soak ci clean

build: ## the binary, also as kubectl plug-in
	$(GO) build -trimpath -o bin/picket ./cmd/picket
	ln -sf picket bin/kubectl-picket

demo: ## the last step of the tutorial as a matrix
	$(GO) run ./cmd/picket matrix -R -f examples/environments

test: ## everything that must pass before a commit
	@out=$$(gofmt -l cmd examples internal); test -z "$$out" || { echo "not gofmt-ed:"; echo "$$out"; exit 1; } >&2
	$(GO) vet ./...
	$(GO) test ./...

platforms: ## what holds on other systems, as far as can be said from here
	GOOS=darwin GOARCH=arm64 $(GO) vet ./...
	GOOS=windows GOARCH=amd64 $(GO) build -o /dev/null ./cmd/picket

race: ## packages with goroutines, under the race detector
	$(GO) test -race ./internal/cli/... ./internal/flow/... ./internal/source/...

fuzz: ## each fuzz target for FUZZ
	@.ci/fuzz $(FUZZ)

bench: ## compare two runs with benchstat
	$(GO) test -run '^$$' -bench . -benchmem ./internal/...

lint: ## staticcheck, as pinned in tools.mod
	$(GO) tool -modfile=tools.mod staticcheck ./...

golden: ## rewrite golden sections and generated pages; read the difference before you commit
	GOLDEN_UPDATE=1 $(GO) test -p 1 -count=1 ./examples ./internal/...

soak: ## compiler against the literal reading, SOAK verdicts
	PICKET_SOAK=$(SOAK) $(GO) test -count=1 -timeout 2h -run '^TestSoak$$' -v ./internal/compile

ci:
	.ci/run

clean:
	rm -rf bin
