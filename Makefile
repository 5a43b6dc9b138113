# make demo   real data, end to end, with an HTML report
# make test   the test suite
# make docs   the documentation
#
# All set up a virtual environment in .venv by themselves. They need make and a Python of at
# least 3.11; `make test PYTHON=/path/to/python` chooses one, otherwise the newest known to work
# is taken. SETUP_ARGS, TEST_ARGS and DEMO_ARGS are passed on.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
CACHE := $(CURDIR)/.cache
TEST_WORKERS ?= 2

# Compiled programs are kept between runs: the second `make demo` or `make test` skips most compilation.
export JAX_COMPILATION_CACHE_DIR ?= $(CACHE)/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0

# A candidate counts only if it runs (version managers put names on PATH that fail when called), is
# new enough, and can make virtual environments with pip in them. The interpreter behind it is taken:
# the candidate itself may lie in an activated environment that is about to be made anew.
PYTHON_CANDIDATES := $(if $(PYTHON),"$(PYTHON)",python3.13 python3.12 python3.11 python3 python)
USABLE := import sys, venv, importlib.util as u; print(getattr(sys, "_base_executable", sys.executable)); \
	sys.exit(sys.version_info < (3, 11) or not (u.find_spec("ensurepip") or u.find_spec("pip")))
define FIND_PYTHON
python=""; \
for candidate in $(PYTHON_CANDIDATES); do \
	if python=$$("$$candidate" -c '$(USABLE)' 2>/dev/null); then break; else python=""; fi; \
done; \
if [ -z "$$python" ]; then \
	echo 'No usable Python among: $(subst ",,$(PYTHON_CANDIDATES)).' >&2; \
	echo 'Install Python 3.11 or newer with its venv module, or call make with PYTHON=/path/to/python.' >&2; \
	exit 1; \
fi
endef

# The environment is made anew when the project was moved (scripts in it hold absolute paths) or
# when PYTHON asks for another version than the one inside.
VERSION_OF = $(shell "$(1)" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
ifneq ($(wildcard $(STAMP)),)
ifneq ($(shell cat $(STAMP)),$(CURDIR))
STALE := yes
endif
ifneq ($(PYTHON),)
ifneq ($(call VERSION_OF,$(PYTHON)),$(call VERSION_OF,$(BIN)/python))
STALE := yes
endif
endif
endif

.PHONY: help demo test lint docs typecheck format lock clean which-python stale
.DEFAULT_GOAL := help

help:
	@echo 'make demo   install, then compare posteriors on real data and write an HTML report'
	@echo 'make test   install, then run the tests'

demo: $(STAMP)
	$(BIN)/icl-bayes demo $(DEMO_ARGS)

# One XLA thread per worker (NPROC): two workers with a pool each would fight over the cores.
test: $(STAMP)
	NPROC=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MPLBACKEND=agg \
		$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal $(TEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: $(STAMP)
	$(BIN)/pyright

# The documentation, to build/site; a warning is an error.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Pins already in the file are kept; SETUP_ARGS=--upgrade renews them all.
lock: $(STAMP)
	$(BIN)/uv pip compile --quiet --universal --no-header --no-annotate \
		--extra dev --extra docs --extra slurm $(SETUP_ARGS) pyproject.toml -o requirements.txt

clean:
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

which-python:
	@$(FIND_PYTHON); echo "$$python"

# uv installs several times faster than pip and is fetched first; it is told pip's index. Where it
# can't be had or can't reach the index, pip does the same work.
PIP = $(BIN)/python -m pip --disable-pip-version-check
UV = UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$($(PIP) config get global.index-url 2>/dev/null)}}" \
	$(BIN)/uv pip install --quiet --python $(BIN)/python
$(STAMP): requirements.txt pyproject.toml $(if $(STALE),stale)
	@if [ -n "$(STALE)" ] || ! $(BIN)/python -c '$(USABLE)' >/dev/null 2>&1; then \
		$(FIND_PYTHON); \
		echo "Making $(VENV) with $$python ($$("$$python" --version))"; \
		rm -rf $(VENV); \
		"$$python" -m venv $(VENV) >/dev/null 2>&1 || { \
			rm -rf $(VENV); \
			"$$python" -m venv --without-pip $(VENV) && \
			"$$python" -m pip --python $(BIN)/python install --quiet pip; } || { \
			echo "$$python can't make a virtual environment with pip: install its venv package." >&2; exit 1; }; \
	fi
	@$(PIP) --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@rm -f $@
	@echo 'Installing the pinned requirements'
	@$(PIP) install --quiet uv || echo 'uv is not available; going on with pip'
	@$(UV) --compile-bytecode -r requirements.txt $(SETUP_ARGS) \
		|| $(PIP) install --quiet -r requirements.txt $(SETUP_ARGS)
	@$(UV) --no-deps --editable . \
		|| $(PIP) install --quiet --no-deps --editable .
	@printf '%s\n' '$(CURDIR)' > $@

stale:
