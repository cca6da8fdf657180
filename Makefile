# The commands a developer needs. Each prints what it runs, to be learned from or copied.

release := .build/release
nvmepf := $(release)/nvmepf
demo := demo.nvpt

.DEFAULT_GOAL := help
.PHONY: help setup build demo test bench lint golden clean
.NOTPARALLEL:

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: ## check the Swift toolchain and install the Debian packages that are missing
	@scripts/setup.sh

build: ## build nvmepf, its libraries and the fio engine, optimised
	swift build -c release
	FioEngine/build.sh $(release)

demo: setup build ## record five seconds of fio, replay the recording and report on it
	$(nvmepf) record -o $(demo) -- fio --name=demo --rw=randread --bs=4k --iodepth=1 --runtime=5 --time_based
	$(nvmepf) replay $(demo)
	$(nvmepf) report $(demo)

test: setup lint ## everything that must hold: style, unit tests, golden traces, end to end
	swift build
	swift test
	$(MAKE) build golden
	if [ -x Tests/EndToEnd/run.sh ]; then Tests/EndToEnd/run.sh; fi

bench: build ## measure nvmepf on this machine
	$(nvmepf) bench

lint: ## check the formatting
	swift format lint --strict --recursive Package.swift Sources Tests

golden: ## replay the golden traces (after make build)
	@for trace in $(wildcard traces/*.nvpt); do echo $(nvmepf) replay $$trace; $(nvmepf) replay $$trace || exit; done

clean: ## remove everything that was built or recorded here
	rm -rf .build $(demo)
