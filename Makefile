# The Python to build .venv with; empty: the best one found.
PYTHON ?=
export PYTHON
RUN = .venv/bin/python -m
# Threads that spin while they wait make everything many times slower on a machine that is busy.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help demo test fuzz lab app docs bench size lock clean install

help:
	@echo "facexkit: which face regions drive a model, which units know what, whom it treats worse"
	@echo
	@echo "  make demo    set up .venv once, run every stage on the built-in faces, show where the result lies"
	@echo "  make test    the whole test suite"
	@echo "  make fuzz    bad files and messages without end, SECONDS=60 for each kind"
	@echo "  make lab     JupyterLab on the notebooks"
	@echo "  make app     a web page on this machine, without programming; DATA=FOLDER lets it read a folder"
	@echo "  make docs    the documentation with the executed notebooks as a site, build/docs"
	@echo "  make bench   times beside the bare model's"
	@echo "  make size    lines of code by room, beside their budgets"
	@echo "  make clean   remove .venv, caches and runs/demo"
	@echo "  make lock    renew requirements.lock from pyproject.toml (needs uv)"
	@echo
	@echo "  PYTHON=/path/to/python3 names the Python to build with (3.10 or newer)."

install:
	@sh setup/install.sh

demo: install
	@$(RUN) facexkit.cli run --out runs/demo

test: install
	@$(RUN) pytest -q $(ARGS)

fuzz: install
	@FACEXKIT_FUZZ_SECONDS=$(or $(SECONDS),60) $(RUN) pytest -q tests/fuzz $(ARGS)

# JupyterLab's own token and its checks of host and origin stay on, here and in the app.
lab: install
	@JUPYTER_PREFER_ENV_PATH=1 $(RUN) jupyterlab notebooks

app: install
	@$(RUN) facexkit.cli app $(if $(DATA),--data "$(DATA)") $(if $(TRUST),--trust)

# The site's own packages are installed when it is first built.
docs: install
	@$(RUN) pip install --quiet -r docs/requirements.txt
	@$(RUN) facexkit.cli run --resume --out runs/docs
	@$(RUN) sphinx --quiet --fail-on-warning docs build/docs
	@echo "build/docs/index.html"

bench: install
	@$(RUN) benchmarks $(ARGS)

size:
	@$${PYTHON:-python3} setup/size.py

# Torch's own platform packages (CUDA) are left to torch's requirements.
lock:
	cp requirements.lock .lock.new
	uv pip compile --quiet --universal --python-version 3.10 --extra cluster --extra hf --extra onnx --extra test --extra timm --no-header --no-annotate pyproject.toml -o .lock.new
	grep -vE '^(nvidia|cuda|triton)' .lock.new > requirements.lock
	rm .lock.new

clean:
	rm -rf .venv runs/demo build *.egg-info .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
