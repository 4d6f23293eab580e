# make setup   environment only (.venv)
# make demo    set up, then run the main job on the sample company (ARGS="--port 7861 --no-browser")
# make test    set up, then every test
# make lint    ruff, mypy, import contracts
# make bench   what the README says of answers, speed and learning, on the sample company or on DOCUMENTS="DIR..." QUESTIONS=FILE COLLECTION=NAME (hours);
#              make bench-answers and make bench-learning are its halves

# The lock was made with 3.11; newer ones work where their wheels exist.
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name))) python3)
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup demo test lint bench bench-answers bench-learning clean

setup: $(STAMP)

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Tacit needs Python 3.11 or newer; set PYTHON=... to one"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[dev,postgres]'
	touch $(STAMP)

demo: setup
	$(BIN)/tacit demo $(ARGS)

test: setup
	$(BIN)/python tools/find_chromium.py
	$(BIN)/python -m pytest $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

BENCH_HOME ?= var/bench
DOCUMENTS ?= ui/sample_company/company
QUESTIONS ?= ui/sample_company/questions.jsonl
COLLECTION ?= handbook
ASKED := $(QUESTIONS) --collection $(COLLECTION) --home $(BENCH_HOME)
LEARNED = --documents $(DOCUMENTS) --questions $(QUESTIONS) --collection $(COLLECTION) --home $(BENCH_HOME)

bench: bench-answers bench-learning

bench-answers: setup
	$(BIN)/tacit ingest $(DOCUMENTS) --collection $(COLLECTION) --home $(BENCH_HOME)
	$(BIN)/tacit evaluate $(ASKED)
	$(BIN)/python benchmarks/answers.py $(ASKED)
	$(BIN)/python benchmarks/serving.py $(ASKED)
	$(BIN)/python benchmarks/generation.py

bench-learning: setup
	$(BIN)/python benchmarks/ppo_parity.py
	$(BIN)/python benchmarks/kills.py
	$(BIN)/python benchmarks/loop.py $(LEARNED)-loop --more-turns 200
	$(BIN)/python benchmarks/raters.py $(LEARNED)-raters --cycles
	$(BIN)/python benchmarks/learning.py $(LEARNED)-learning

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache
