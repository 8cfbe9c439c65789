# make demo, make test: each makes its own environment from constraints.txt
PYTHON ?= python3
FLOOR_PYTHON ?= python3.10
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready

OLD = $(VENV)-oldest
FLOOR = $(VENV)-floor
ROBOTS = $(VENV)-robots
INTEGRATIONS = $(VENV)-integrations
MUTATION = $(VENV)-mutation
DIST = $(VENV)-dist
AXE = .cache/node_modules/axe-core/axe.min.js
# modules whose docstrings have examples that run
DOCTESTS = src/paradigms/solve.py src/paradigms/rules/schedule_rules.py src/paradigms/schedule.py src/paradigms/system.py \
	src/paradigms/solution.py src/paradigms/stopping src/paradigms/methods src/paradigms/execution/guidance.py \
	src/paradigms/adapters/parallelize.py src/paradigms/adapters/schedulers/table.py src/paradigms/adapters/loops/sample.py

.PHONY: demo test gpu-small browser docs notebooks oldest floor robots integrations lint install bench clean dist mutants mutation \
	diffusers-tests

install: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e weights -e '.[dev,docs]'
	touch $(READY)

demo: $(READY)
	$(BIN)/paradigms demo --out out/demo

test: $(READY)
	$(BIN)/python -m pytest -n 2

# the race's page in Chromium (Debian: apt-get install chromium), with axe-core where npm brings it
browser: $(READY)
	test -f $(AXE) || npm install --silent --no-save --prefix .cache axe-core@4.14.1 || true
	AXE=$(AXE) $(BIN)/python -m pytest -n 0 -m browser tests/race

# the site in out/docs/index.html; a warning is an error, and nothing is read from the network
docs: $(READY)
	$(BIN)/python -m sphinx -b html -W --keep-going -n -q docs out/docs
	$(BIN)/python -m pytest -n 0 -q --doctest-modules $(DOCTESTS)

# runs the notebooks in docs/notebooks and keeps their outputs; a test runs their cells without these two libraries
notebooks: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check nbclient==0.11.0 ipykernel==7.4.0
	$(BIN)/python docs/notebooks/execute.py

# with the oldest diffusers and transformers of the declared ranges: schedulers as tables, pipelines, the latent model
oldest: $(OLD)/.ready
	$(OLD)/bin/python -m pytest -n 2 -W default tests/adapters/test_remote_code.py tests/models/test_latent.py \
		tests/adapters/test_schedulers.py \
		tests/adapters/pipelines/test_pipeline_schedulers.py tests/adapters/pipelines/test_pipeline_samples.py \
		tests/adapters/pipelines/test_pipeline_callbacks.py

$(OLD)/.ready: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv $(OLD)
	$(OLD)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-oldest.txt -e weights -e '.[dev]'
	touch $(OLD)/.ready

# where all declared ranges begin: Python 3.10 and torch 2.6, which PyPI has with CUDA's libraries alone (3 GB), so that
# CI does not run it
floor: $(FLOOR)/.ready
	$(FLOOR)/bin/python -m pytest -n 2 -W default tests/core/test_solve.py tests/core/test_rules.py tests/stopping/test_criteria.py \
		tests/cli/test_cli.py tests/adapters/test_remote_code.py tests/models/test_latent.py

$(FLOOR)/.ready: pyproject.toml constraints-floor.txt
	$(FLOOR_PYTHON) -m venv $(FLOOR)
	$(FLOOR)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-floor.txt -e weights -e '.[dev]'
	touch $(FLOOR)/.ready

# with the simulators of Square and Kitchen, which want an older numpy
robots: $(ROBOTS)/.ready
	$(ROBOTS)/bin/python -m pytest -n 2 tests/policies/test_square.py tests/policies/test_kitchen.py

$(ROBOTS)/.ready: pyproject.toml constraints-robots.txt
	$(PYTHON) -m venv $(ROBOTS)
	$(ROBOTS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-robots.txt \
		-e weights -e '.[cli,kitchen,square]' pytest pytest-xdist
	touch $(ROBOTS)/.ready

# against the libraries that `paradigms.integrations` is for; k-diffusion asks for much that its samplers do not use
integrations: $(INTEGRATIONS)/.ready
	$(INTEGRATIONS)/bin/python -m pytest -n 2 -W default tests/integrations

$(INTEGRATIONS)/.ready: pyproject.toml constraints-integrations.txt
	$(PYTHON) -m venv $(INTEGRATIONS)
	$(INTEGRATIONS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-integrations.txt \
		-e weights -e '.[cli,integrations]' mlxtend pytest pytest-xdist scipy torchdiffeq torchsde
	$(INTEGRATIONS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints-integrations.txt \
		k-diffusion
	touch $(INTEGRATIONS)/.ready

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# changes of one line that tests must notice, each applied to a copy
mutants: $(READY)
	$(BIN)/python tests/mutation/mutants.py

# a random sample of all changes that mutmut knows of the core; MUTATION_ARGS='--count 30 stop spectral'
mutation: $(MUTATION)/.ready
	$(MUTATION)/bin/python tests/mutation/mutation.py $(MUTATION_ARGS)

$(MUTATION)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(MUTATION)
	$(MUTATION)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e weights -e '.[dev]' mutmut==3.8.1
	touch $(MUTATION)/.ready

# diffusers' own fast tests, parallel and not; CHECKOUT is a clone of its repository at the commit whose tests are wanted
diffusers-tests: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check parameterized requests-mock
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.pipelines.diffusers_tests $(CHECKOUT) --commit '$(COMMIT)'

# the two distributions in dist/, as an index would be given them, with their checks
dist: $(DIST)/.ready
	rm -rf dist
	$(DIST)/bin/python -m build --quiet --outdir dist weights
	$(DIST)/bin/python -m build --quiet --outdir dist .
	$(DIST)/bin/python -m twine check --strict dist/*
	$(DIST)/bin/check-wheel-contents dist/*.whl

$(DIST)/.ready:
	$(PYTHON) -m venv $(DIST)
	$(DIST)/bin/python -m pip install --quiet --disable-pip-version-check build==1.6.1 check-wheel-contents==0.6.3 twine==7.0.0
	touch $(DIST)/.ready

# every part of the GPU's measurement, in small on the CPU
gpu-small: $(READY)
	rm -rf out/gpu-small
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks gpu --small --device cpu --minutes 15 --out out/gpu-small
	$(BIN)/python -m benchmarks.gpu.complete out/gpu-small/gpu.json

bench: $(READY)
	$(BIN)/python -m benchmarks engine

clean:
	rm -rf $(VENV) $(OLD) $(FLOOR) $(ROBOTS) $(INTEGRATIONS) $(MUTATION) $(DIST) dist out .pytest_cache .mypy_cache .ruff_cache .hypothesis
