# The commands a developer needs. Each prints the commands that it runs.

release := .build/release
nvmepf := $(release)/nvmepf
demo := demo.nvpt

.DEFAULT_GOAL := help
.PHONY: mutants help setup build static installable install deb test-packages release demo test test-arm64 test-fresh test-guest test-kernel nightly fuzz bench lint golden clean
.NOTPARALLEL:

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## check the Swift toolchain and install missing Debian packages
	@scripts/setup.sh

build: ## build nvmepf, its libraries and the fio engine, optimised
	swift build -c release
	FioEngine/build.sh $(release)

static: setup ## build .build/static/nvmepf, which runs without Swift; with ARCH=arm64 for arm64
	ARCH=$(ARCH) scripts/static.sh .build/static$(addprefix -,$(ARCH))/nvmepf

installable: static ## build what install and deb copy: program, fio engine, manual pages, completions
	@[ -z "$(ARCH)" ] || { echo "only for this machine's architecture, without ARCH" >&2; exit 1; }
	scripts/static-library.sh .build/static/libnvmepf-host.so
	FioEngine/build.sh .build/static
	scripts/pages.sh .build/static/nvmepf .build/static

install: ## install under PREFIX (/usr/local), below DESTDIR, after make installable
	PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' scripts/install.sh

deb: installable ## make Debian packages in .build/debs, with the fio engine for Debian 12 and 13
	scripts/deb.sh .build/debs

test-packages: ## as root: install, use and purge the packages of .build/debs in a fresh Debian 12 and 13
	Tests/Package/run.sh

release: deb ## make a tarball of an installation, the packages and their checksums in .build/dist
	scripts/release.sh .build/dist

demo: setup build ## record five seconds of fio (or of the built-in workload), replay and report
	@if [ -e $(release)/nvmepf-fio.so ]; then \
	  set -x; $(nvmepf) record -o $(demo) -- fio --name=demo --rw=randread --bs=4k --iodepth=1 --runtime=5 --time_based; \
	else \
	  set -x; $(nvmepf) record -o $(demo) --rw randread --bs 4k --iodepth 1 --runtime 5; \
	fi
	$(nvmepf) replay $(demo)
	$(nvmepf) report $(demo)

test: setup lint ## run all checks: style, setup, unit tests, golden traces, end to end
	Tests/Setup/run.sh
	swift build
	swift test
	$(MAKE) build golden
	$(nvmepf) simulate --seed 1 --seeds 1000 --commands 1000
	analysis/stages.py --against $(nvmepf) --simulated 50 $(filter-out traces/nvmet-pci-epf.nvpt, $(wildcard traces/*.nvpt))
	Tests/EndToEnd/run.sh
	Tests/Fuzz/run.sh --seconds 10

test-fresh: ## as root: run make demo and make test in a fresh Debian 13, as an unprivileged user
	Tests/Setup/fresh.sh

test-guest: setup ## in emulated guests with Debian's kernels 6.12 and 7.x: attach our controller, record the kernel
	Tests/Guest/run-vfio-user-tests.sh
	Tests/Guest/run-debian-tests.sh

test-arm64: ## build nvmepf for arm64 and test it: as an emulated program, and in guests with Debian's kernels
	$(MAKE) static ARCH=arm64
	ARCH=arm64 NVMEPF_STATIC=.build/static-arm64/nvmepf Tests/Guest/run-program-tests.sh
	ARCH=arm64 NVMEPF_STATIC=.build/static-arm64/nvmepf Tests/Guest/run-debian-tests.sh loop kprobe tcp doctor begin guard

test-kernel: setup ## record the real nvmet-pci-epf in an emulated guest; builds its kernel once
	Tests/Guest/run-kernel-tests.sh

nightly: setup ## as root: long property tests, simulation, mutants, an hour of fuzzing, the packages and arm64
	$(MAKE) build
	$(nvmepf) simulate --seeds 10000 --commands 10000
	NVMEPF_HOSTILE_COMMANDS=10000000 NVMEPF_MODEL_COMMANDS=10000000 swift test --filter 'HostileHost|ModelTests'
	scripts/mutants.sh --replay
	Tests/Fuzz/run.sh --seconds 720
	$(MAKE) deb test-packages test-arm64

fuzz: setup ## fuzz every reader of untrusted input, five minutes each
	Tests/Fuzz/run.sh --seconds 300

bench: build ## measure nvmepf on this machine
	$(nvmepf) bench

lint: ## check the formatting
	swift format lint --strict --recursive Package.swift Plugins Sources Tests

mutants: setup ## plant faults in the engine and check that the simulation finds each
	scripts/mutants.sh

golden: ## replay the golden traces (after make build)
	@for trace in $(wildcard traces/*.nvpt); do echo $(nvmepf) replay $$trace; $(nvmepf) replay $$trace || exit; done

clean: ## remove everything built or recorded here
	rm -rf .build .build-fuzz .build-static Tests/Fuzz/findings $(demo)
