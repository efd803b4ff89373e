# make dashboard    set up once, then serve http://localhost:8501
# make test         set up once, then every check and test
# make test-slow    the same with the proofs that take minutes
# make fast         every check and the quick tests, in under two minutes: for between two edits;
#                   TESTS="tests/cam/_metrics" runs those tests in their place
# make check        lint, format, types, words
# make lock         the tested versions with hashes, and their licences, after a change of bounds
# make docs         the API reference, from the docstrings, into build/reference
# make gpu-check    on a GPU: the kernels' tests and every figure, in under ten minutes
PYTHON ?= python3
BIN := .venv/bin
PORT ?= 8501
# A file's tests stay together: they share what it has loaded.
CORES := -n auto --dist loadfile
# Something of each part: 90 seconds on one core, and types take a minute where nothing is cached.
QUICK_TESTS := tests/test_imports.py tests/test_package.py tests/cam/test_errors.py \
	tests/cam/test_targets.py tests/cam/_data tests/cam/_attribution/test_hand_worked_maps.py \
	tests/cam/_attribution/test_bad_calls.py tests/cam/_engine/test_capture.py \
	tests/cam/_metrics/faithfulness/test_road.py tests/cam/_runs/statistics \
	tests/kernels/launch/test_dispatch.py

.PHONY: dashboard test test-slow fast check benchmark gpu-check lock clean

dashboard: .venv/installed
	$(BIN)/python -m cam.pages.ui.server.serve dashboard.py --server.port $(PORT)

# Two threads of a process that spin while they wait take the cores from everybody else's.
test test-slow fast: export OMP_WAIT_POLICY = PASSIVE

# With AGAIN=1 tests that failed beside all others run once more alone: a test that fails twice is
# broken, and a test that then passes stands in the first summary and depends on the load.
test: check
	$(BIN)/python -m pytest $(CORES) -m "not slow" || { [ $$? = 1 ] && [ -n "$(AGAIN)" ] && \
		$(BIN)/python -m pytest -m "not slow" --last-failed --last-failed-no-failures none; }

test-slow: check
	$(BIN)/python -m pytest $(CORES)

fast: TESTS ?= $(QUICK_TESTS)
fast: check
	$(BIN)/python -m pytest $(CORES) -m "not slow and not browser" $(TESTS)

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/check_words.py
	$(BIN)/python tools/typecheck.py

benchmark: .venv/installed-dev
	$(BIN)/python -m benchmarks.methods

lock: .venv/installed
	$(BIN)/python tools/write_lock.py

gpu-check: .venv/installed-dev
	$(BIN)/python -m benchmarks.gpu

# A package with __all__ names its functions, but not its modules: those are listed here.
.PHONY: docs
docs: .venv/installed-dev
	$(BIN)/python -m pdoc --docformat google --output-directory build/reference \
		cam cam.compat cam.compat.pytorch_grad_cam.utils cam.kernels

# The stamps are files that the recipe itself writes, and only after it succeeded, so that a
# second call does nothing and an interrupted one starts again.
.venv/created:
	$(PYTHON) tools/create_venv.py .venv
	touch $@

.venv/installed: .venv/created requirements.txt $(wildcard requirements/*.txt)
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt requirements-ray.txt
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-dev.txt
	touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build cam.egg-info
