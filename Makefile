# What the project does, one target each; `make` alone lists them. Nothing has to be installed but Go, git and, for the
# race detector, a C compiler: staticcheck is a tool of go.mod.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

FUZZTIME ?= 5s
BENCH ?= .

# The packages whose tests register flag.Bool("update", ...): the ones that keep goldens or transcripts.
golden_packages = $(shell grep -rl --include='*_test.go' 'flag[.]Bool."update"' . | xargs -r -n1 dirname | sort -u)

.PHONY: help build test race lint golden fuzz bench ci

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r target does; do \
		printf '  make %-7s %s\n' "$$target" "$$does"; done

build: ## build bin/rollbook
	go build -o bin/rollbook ./cmd/rollbook

test: ## run all tests
	go test ./...
	go -C deploy/check test ./...

race: ## run all tests under the race detector
	go test -race -timeout 15m ./...

lint: ## go vet and staticcheck
	go vet ./...
	go tool staticcheck ./...

golden: ## rewrite goldens and transcripts; the diff is the change in behaviour
	@test -n "$(golden_packages)" || { echo 'no test registers the flag -update: there is nothing to rewrite' >&2; exit 1; }
	go test $(golden_packages) -args -update

fuzz: ## fuzz every target for FUZZTIME (5s)
	@bash .ci/fuzz $(FUZZTIME)

bench: ## run the benchmarks that match BENCH (all)
	go test -run '^$$' -bench '$(BENCH)' -benchmem ./...

ci: ## run what continuous integration runs
	bash .ci/run
