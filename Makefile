# Each target does all its set-up by itself.
# What it fetches goes to a cache, /var/tmp/glidebridge-UID; GLIDEBRIDGE_CACHE names another place.
PYTHON ?= python3
RUN = $(PYTHON) -B setup/run.py
REAL = --with htcondor --with htcondor-next --with python39 --with postgresql --with mariadb --with strace \
	--with ganglia --with webalizer --with grid-clients --with grid
DISTRIBUTION = $(RUN) --as-caller python -B setup/distribution.py
# Files of tests run side by side: they wait more than they compute.
PYTEST = pytest -n 3 --dist loadfile
# What only root can show, if it is root who calls make.
AS_ROOT = pytest -m as_root tests
PACKAGES = desktopgrid pilot bridge cod condor jdl
NODE = desktopgrid/model desktopgrid/wire desktopgrid/link pilot/node desktopgrid/client/runner.py
# The commit at which the foundation was finished: what came later may not slow it down.
FOUNDATION = 0d38b91

.DEFAULT_GOAL := help
.PHONY: help env demo demo-bridge test check check-format check-style check-types check-node check-map
.PHONY: bench soak pool pool-stop features distrib package doc install uninstall clean

help: ## this list
	@echo "Glidebridge: make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 12

env: ## print what puts the commands on PATH, for the shell to eval
	@venv=$$($(PYTHON) -B setup/bootstrap.py) && echo "export PATH=$$venv/bin:\$$PATH PYTHONPATH=$(CURDIR)"

demo: ## render a picture on a desktop worker and two pilots in a real HTCondor pool
	@$(RUN) --with htcondor --result demo/fractal.png python demo/run.py

demo-bridge: ## render it on real HTCondor, ARC, GRAM and Slurm sites and a desktop at once (as root)
	@$(RUN) --with htcondor --with grid --with grid-clients --result demo/fractal.png python demo/bridge.py

test: ## run all tests but the long ones
	@$(RUN) $(REAL) $(PYTEST) -m "not soak" tests
	@$(RUN) --as-root $(AS_ROOT)

check: check-format check-style check-types check-node check-map ## check the source: format, style, types, imports

check-format:
	@$(RUN) ruff format --check --quiet .

check-style:
	@$(RUN) ruff check --quiet .

check-types: # from scratch if it fails: mypy's cache believes that a module once missed is missing still
	@$(RUN) sh -c 'mypy $(PACKAGES) >/dev/null || mypy --no-incremental $(PACKAGES)'
	@$(RUN) sh -c 'cd setup && MYPYPATH=.. mypy --config-file ../pyproject.toml .'

check-node: # what runs on a worker node has to do with Python 3.9
	@$(RUN) vermin --quiet --no-tips --violations --target=3.9- $(NODE)

check-map:
	@$(RUN) pytest --quiet tests/test_architecture.py

bench: ## measure us beside our peers and the machine's limits; writes bench/latest.json
	@$(RUN) --with htcondor --with compiler --earlier $(FOUNDATION) --result bench/latest.json python bench/run.py

soak: ## run the long tests: kill everything at random, a hundred times
	@$(RUN) $(REAL) pytest -m soak tests/soak

pool: ## start a real HTCondor pool to play with
	@$(RUN) --as-caller --with htcondor python setup/pool.py start

pool-stop: ## stop that pool
	@$(RUN) --as-caller --with htcondor python setup/pool.py stop

features: ## run all tests and write docs/features.md, the list of what they show
	@$(RUN) $(REAL) --result docs/features.md $(PYTEST) -m "not soak" -p tests.feature_report tests
	@$(RUN) --as-root --result docs/features.md $(AS_ROOT) -p tests.feature_report --amend-features

distrib: ## lay out what a server needs in build/glidebridge, compiled
	@$(DISTRIBUTION) distrib

package: distrib ## make archives of that and of the sources in build/
	@$(DISTRIBUTION) package

doc: ## make the documentation of the Python API in build/doc
	@$(DISTRIBUTION) doc

install: ## install what a server needs in PREFIX
	@$(if $(PREFIX),$(PYTHON) -B setup/requirements.py "$(PREFIX)",echo "make install PREFIX=DIR"; exit 2)
	@$(DISTRIBUTION) distrib
	@$(DISTRIBUTION) install "$(PREFIX)"

uninstall: ## remove what was installed in PREFIX
	@$(if $(PREFIX),$(DISTRIBUTION) uninstall "$(PREFIX)",echo "make uninstall PREFIX=DIR"; exit 2)

clean: ## remove build/ and the cache, which is all that make leaves; what is installed stays
	@rm -rf build
	@$(PYTHON) -B setup/cache.py --remove
