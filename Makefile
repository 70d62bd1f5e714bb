PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: help setup run test lint clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

# The stamp makes a second `make run` start at once.
.venv/.installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing zerostock into .venv (about a minute the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

setup: .venv/.installed ## install into .venv

run: setup ## a simulated city's month through the whole system
	@$(BIN)/zerostock simulate --out demo-data/city --outlets 1500 --days 35 --start 2026-02-25 \
	  --cdrs 3000000 --calls-by end --late-papers 0.02 --if-missing
	@$(BIN)/zerostock run --input demo-data/city --data demo-data/state --disorder 15m \
	  --sms file:demo-data/sms.ndjson
	@echo; echo "The last SMS of some fifteen thousand in demo-data/sms.ndjson:"
	@tail -n 2 demo-data/sms.ndjson
	@echo; echo "The month's batch jobs on the same city:"
	@$(BIN)/zerostock batch line-loss --period 2026-03 --readings --input demo-data/city --data demo-data/state
	@for day in 2026-01-31 2026-02-28 2026-03-31; do \
	  $(BIN)/zerostock batch arrears --as-of $$day --input demo-data/city --data demo-data/state || exit; done
	@$(BIN)/zerostock batch subscriber-loss --period 2026-03 --input demo-data/city --data demo-data/state
	@$(BIN)/zerostock batch channel --period 2026-03 --input demo-data/city --data demo-data/state
	@echo; echo "Who will be out of cards tomorrow, and is told this evening:"
	@$(BIN)/zerostock soon-empty --data demo-data/state --clock event --dry-run | head -n 4
	@$(BIN)/zerostock soon-empty --data demo-data/state --clock event --sms file:demo-data/evening.ndjson >/dev/null \
	  || echo "(doubted stock is for the managers, who have no channel here: docs/soon-empty.md)"
	@echo; echo "To see all of it: $(BIN)/zerostock serve --data demo-data/state --input demo-data/city"
	@echo "and open http://127.0.0.1:8080/"

# Many tests wait for a broker or a worker: two files at a time take half as long, on any machine.
test: setup ## all tests this machine can run
	@$(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

clean: ## remove what setup, run and test made
	rm -rf .venv build *.egg-info demo-data
