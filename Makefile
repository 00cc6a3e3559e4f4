# make demo | test | check need nothing before them; the environment is .venv in this folder.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: install demo test test-slow test-extras check format peers serve clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python %s found; expected 3.11 or later (make PYTHON=python3.12 ...)" % sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,dev]'
	@touch $@

demo: install
	$(BIN)/recsys-ae demo

test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow and not gpu and not extras'

test-slow: install
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'slow and not gpu and not extras'

test-extras: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ray]'
	$(BIN)/python -m pytest -m 'extras and not slow' --timeout=600

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

peers: .venv-peers/.installed

.venv-peers/.installed: benchmarks/peers/requirements.txt
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps recbole==1.2.1
	@touch $@

clean:
	rm -rf .venv .venv-peers
