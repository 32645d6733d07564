# Everything in its own .venv. `make profile` needs only Python; so does `make test` (a browser is used where there is one).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
DEMO := src/yoloproof/demo/yolov13n-coco128.safetensors

.PHONY: profile test test-fast lint bench locks docs clean

profile: $(VENV)/.runtime ## the main job on the bundled checkpoint and images: export, prove, time, print the table
	$(BIN)/yoloproof profile $(DEMO) --runtime onnxruntime --runtime openvino

test: $(VENV)/.dev ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadgroup

test-fast: $(VENV)/.dev ## what one runs while working: no exports, no engines, no Ray, no browser; about a minute
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadgroup tests/test_architecture.py tests/test_intervals.py tests/detection \
	    tests/measurement tests/runtime tests/results tests/doctor tests/estimate tests/files tests/commands/test_compare.py \
	    tests/commands/test_profile_status.py tests/network/test_checkpoint.py --ignore tests/doctor/test_environments.py --ignore tests/estimate/test_graph.py

lint: $(VENV)/.dev ## style, types, the documents' tables in step with the results
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python benchmarks/tables.py --check

bench: $(VENV)/.dev ## the export benchmark (minutes): ratios against the published and the stripped graph
	$(BIN)/python benchmarks/export.py --json export.json

locks: $(VENV)/.dev ## environments/locked: every package with its hashes, of the environments that the package index has whole
	for name in cu13-rtx cu13-tensorrt11 native; do \
	    { head -2 environments/locked/$$name.txt; $(BIN)/uv pip compile -q environments/t4-$$name.txt --generate-hashes --no-annotate --no-header \
	        --python-version 3.12 --python-platform x86_64-manylinux_2_39; } > $$name.new && mv $$name.new environments/locked/$$name.txt; done

docs: $(VENV)/.dev ## the guide as static pages in site/
	$(BIN)/zensical build --strict

# torch first: a CPU build where pip finds one, before anything else asks for a larger one
$(VENV)/.torch: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	touch $@

$(VENV)/.runtime: $(VENV)/.torch pyproject.toml
	$(PIP) --editable '.[openvino]'
	touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(PIP) --editable '.[dev]'
	$(PIP) --no-deps tensorrt-stubs tritonclient # types and a schema alone: what they depend on is not needed, or not to be had
	touch $@

clean:
	rm -rf $(VENV) site dist build .pytest_cache .mypy_cache .ruff_cache
