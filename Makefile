# One command per habit; `make` lists them.
.DEFAULT_GOAL := help
.PHONY: help run serve test soak check bench clean setup build test-native-asan format

MODEL ?= smollm2:135m
Q ?=
BUILD_DIR ?= build/dev
BENCH := build/bench
NATIVE_FLAGS ?=
TESTS ?= tests
PROCESSES ?= 2
override Q := $(value Q)
export Q MODEL
PYTHON_ENV := .venv/bin/python

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 26

run: ## answer Q="…", or a pipe, with MODEL (default smollm2:135m); without either on a terminal: chat
	@scripts/setup.sh run
	@scripts/build.sh build/dev $(NATIVE_FLAGS)
	@scripts/run.sh

serve: ## answer over HTTP with MODEL (a page, OpenAI's endpoints), keeping answers; ARGS="--port 9000" and others are passed on
	@scripts/setup.sh serve
	@scripts/build.sh build/dev $(NATIVE_FLAGS)
	@exec .venv/bin/miaotui serve "$$MODEL" --cache sqlite $(ARGS)

setup: ## create .venv with all that development needs
	@scripts/setup.sh test

build: ## rebuild the native module; NATIVE_FLAGS=-DMIAOTUI_WERROR=ON with another BUILD_DIR builds aside
	@scripts/setup.sh run
	@scripts/build.sh $(BUILD_DIR) $(NATIVE_FLAGS)

test: ## run all tests (TESTS=tests/formats runs some) in two processes (PROCESSES=0: in one), fetching two models and a browser for them
	@scripts/setup.sh test
	@scripts/browser.sh
	@scripts/build.sh build/dev $(NATIVE_FLAGS)
	@scripts/services.sh
	@for model in smollm2:135m minilm; do .venv/bin/miaotui pull $$model >/dev/null || \
	  echo "miaotui: tests that need the real $$model are skipped" >&2; done
	$(PYTHON_ENV) -m pytest -n $(PROCESSES) --dist loadfile $(TESTS)

soak: ## a server under load for half an hour: leaks, overload, disconnects, tenants; into build/soak.json (SOAK_MIXED_S=60 scales it)
	@scripts/setup.sh test
	@scripts/build.sh build/dev $(NATIVE_FLAGS)
	@.venv/bin/miaotui pull smollm2:135m >/dev/null
	$(PYTHON_ENV) -m pytest -m soak tests/soak

check: ## format, lint, types, C++ warnings as errors, import ladder, exported names
	@scripts/setup.sh test
	$(PYTHON_ENV) -m ruff format --check src tests benchmarks
	$(PYTHON_ENV) -m ruff check src tests benchmarks
	$(PYTHON_ENV) -m mypy
	find csrc -name '*.cpp' -o -name '*.h' | xargs .venv/bin/clang-format --dry-run -Werror
	@scripts/build.sh build/dev $(NATIVE_FLAGS)
	@scripts/build.sh $(if $(findstring WERROR=ON,$(NATIVE_FLAGS)),build/dev,build/werror) -DMIAOTUI_WERROR=ON
	$(PYTHON_ENV) -m pytest -q tests/test_import_ladder.py tests/test_exported_names.py tests/test_forbidden_calls.py

format: ## rewrite Python and C++ sources in the house format
	@scripts/setup.sh test
	$(PYTHON_ENV) -m ruff format src tests benchmarks
	$(PYTHON_ENV) -m ruff check --fix src tests benchmarks
	find csrc -name '*.cpp' -o -name '*.h' | xargs .venv/bin/clang-format -i

test-native-asan: ## run the native and mutation tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@scripts/setup.sh test
	@scripts/build.sh build/asan -DMIAOTUI_SANITIZE=ON
	@scripts/test-asan.sh

bench: ## speed of MODEL beside the machine's ceilings and of SmolLM2 beside other engines, into build/bench
	@scripts/setup.sh test
	@scripts/build.sh build/dev $(NATIVE_FLAGS)
	@mkdir -p $(BENCH)
	.venv/bin/miaotui bench $(MODEL) --ops --plot $(BENCH)/ops.svg
	.venv/bin/python benchmarks/requantize.py smollm2:135m $(BENCH)/smollm2-135m-q4_0.gguf
	.venv/bin/python benchmarks/peers.py --runs 3 --openvino --out $(BENCH)/peers.json smollm2:135m $(BENCH)/smollm2-135m-q4_0.gguf

clean: ## remove .venv, builds and tool caches; models stay ('miaotui rm' removes those)
	rm -rf .venv build dist src/miaotui/_native*.so .mypy_cache .ruff_cache .pytest_cache .hypothesis .setup.lock
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
