# Set-up and tests need only Python 3.11, make and a package index.
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
WORKERS ?= 4
WAREHOUSE ?= $(CURDIR)/dbt_project/movies.duckdb
BIN := $(abspath $(VENV))/bin
INSTALLED := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Images for containers set it. Hundreds of processes below would compile all that they import anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo docs reference screenshots install azurite browser postgres compiled test suite test-duckdb2 test-extensions test-installation test-spark lint bench chaos doors fuzz soak clean

install: $(INSTALLED)

# uv, where it is there, installs the same pins in seconds. The pins are whole, and `--no-deps` keeps
# out what none of it needs: the parser of dbt-core 1.12, which is downloaded while it is installed.
UV := $(shell uv --version >/dev/null 2>&1 && echo uv)

$(INSTALLED): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(if $(UV),uv pip install --python $(BIN)/python,$(BIN)/python -m pip install) --quiet \
		--no-deps --requirement $(CONSTRAINTS) --editable .
	touch $@

# The movies project from seed to marts, answered by a small language model on this machine.
demo: install
	@echo "The packaged model is small and weak: it shows the whole path, not good answers."
	cd dbt_project && $(BIN)/dbt deps --quiet && MOVIES_WAREHOUSE=$(WAREHOUSE) $(BIN)/dbt build
	@$(BIN)/python -c "import duckdb; duckdb.connect('$(WAREHOUSE)', read_only=True).sql( \
		'select title, categories, summary, enrichment_status as status \
		from movies_enriched order by movie_id limit 12').show(max_width=160)"
	@echo "The warehouse: $(WAREHOUSE)"

# The site of docs/ into site/, without any network; a link or an anchor that leads nowhere fails it.
docs: install
	$(BIN)/zensical build --clean --strict

# The pages of docs/reference, from the models, the commands, the macros and the catalogs.
reference: install
	cd tests && $(BIN)/python -m docs.reference

# The pictures of docs/, from the movies project as the packaged model answers it, in minutes.
screenshots: install
	cd tests && $(BIN)/python -m docs.screenshots

# What the tests of the HTML report look at it with; without it they are skipped.
browser:
	command -v chromium >/dev/null || apt-get install --yes --quiet chromium >/dev/null \
		|| { apt-get update --quiet && apt-get install --yes --quiet chromium; } >/dev/null
	npm install --silent --no-save --no-package-lock --prefix .browser axe-core@4.14.1

# The emulator of Azure Blob Storage, which tests of shared state start; without it they are skipped.
azurite:
	npm install --silent --no-save --no-package-lock --prefix .azurite azurite@3.37.0

# The programs of a PostgreSQL server and of a pooler, which tests start themselves.
postgres:
	ls /usr/lib/postgresql/*/bin/initdb /usr/sbin/pgbouncer >/dev/null 2>&1 \
		|| apt-get install --yes --quiet postgresql pgbouncer >/dev/null \
		|| { apt-get update --quiet && apt-get install --yes --quiet postgresql pgbouncer; } >/dev/null

# What every worker of the tests imports, compiled by one process; nothing else is done with it.
compiled: install
	-@$(BIN)/python -m pytest --collect-only --quiet > /dev/null

test: install lint suite

# In the order of tests/conftest.py, which also says what stays on one worker.
DIST := --dist loadfile --no-loadscope-reorder
suite: install
	$(BIN)/python -m pytest -n $(WORKERS) $(DIST) --durations=40 --durations-min=4

# The built wheel in a fresh environment as a user makes it: pip, no constraints, no extras.
test-installation: install
	$(BIN)/python -m pytest -m installation tests/installation

# What DuckDB could change, and runs of dbt, on the oldest dbt and the newest DuckDB, in an environment
# of its own; the lock uses dbt 1.12 and DuckDB 1.5. Of the unit tests those that run DuckDB: what
# they do not import is proved by the suite for every version of it.
RUN_DUCKDB = $(shell grep -lrE '^import duckdb|import Workspace' --include='test_*.py' \
	$(addprefix tests/unit/,endpoints pipeline state task validation warehouse workspace))
test-duckdb2:
	$(MAKE) install VENV=$(VENV)-duckdb2 CONSTRAINTS=constraints-duckdb2.txt
	$(abspath $(VENV))-duckdb2/bin/python -m pytest -n $(WORKERS) $(DIST) $(RUN_DUCKDB) \
		tests/functional/engine/test_engine.py tests/functional/dbt/test_dbt.py

# Databases that are attached through DuckDB's extensions, which DuckDB 1.5.5 has as packages: it and
# they stand before those of the lock. What needs no extension is in the suite. What needs a server of
# PostgreSQL is skipped where its programs are missing (make postgres).
EXTENSIONS := $(abspath $(VENV))-extensions
test-extensions: install
	$(if $(UV),uv pip install --python $(BIN)/python,$(BIN)/python -m pip install --upgrade) --quiet \
		--no-deps --requirement constraints-extensions.txt --target $(EXTENSIONS)
	PYTHONPATH=$(EXTENSIONS) $(BIN)/python -m pytest -n $(WORKERS) $(DIST) \
		$(addprefix tests/functional/databases/,test_other_hosts.py test_types.py)

# Spark itself: dbt-spark in a session and over Connect; a master and two workers as processes, one of
# which is killed. It needs a JDK (17), and
# takes PySpark with all of Spark (450 MB) in place of its client, in an environment of its own.
SPARK := $(abspath $(VENV))-spark/bin/python
WITH_SPARK := $(abspath $(VENV))-spark/.spark
test-spark:
	$(MAKE) install VENV=$(VENV)-spark
	$(MAKE) $(WITH_SPARK)
	$(SPARK) -m pytest -m spark tests/functional/spark

# Both packages have the same files, so that neither stays where the other one goes.
$(WITH_SPARK): $(VENV)-spark/.installed constraints-spark.txt
	$(if $(UV),uv pip uninstall --python $(SPARK),$(SPARK) -m pip uninstall --yes) --quiet pyspark-client pyspark
	$(if $(UV),uv pip install --python $(SPARK),$(SPARK) -m pip install) --quiet \
		--no-deps --requirement constraints-spark.txt
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# dbt killed at every step of the ledger under every fault and mode, pair by pair: minutes.
chaos: install
	$(BIN)/python -m pytest -n 2 -m "matrix or not matrix" tests/chaos

# What dbt makes of an enrichment, behind both doors: the plugin's, and the command's without it.
doors: install
	$(BIN)/python -m pytest -n $(WORKERS) $(DIST) -m "matrix or not matrix" tests/functional/dbt \
		tests/functional/spark/test_dbt.py

# The reading side, with a million hostile lines and bodies; prints its seed.
fuzz: install
	cd tests && $(BIN)/python -m fuzz.reading --inputs $(or $(INPUTS),1000000) $(if $(SEED),--seed $(SEED))

# Random runs, kills and faults for so long; prints its seed.
soak: install
	cd tests && $(BIN)/python -m chaos.soak --minutes $(or $(MINUTES),5) $(if $(SEED),--seed $(SEED))

# Everything in docs/benchmarks.md, tokens.md and million-rows.md, in two hours; in parts with
# ONLY=sides,shapes,peers,nothing-new,dbt-run,emulator,shared-state,spark,pictures,tokens,quality,report,
# SIZES=10000,100000 (of sides), ROWS=10000 (of the others) and RUNS=1; FILMS names the CSV file of
# real films
# (tests/benchmarks/films.py says where it is from), DUCKDB2 a Python with DuckDB 2.0, which is that
# of `make test-duckdb2` otherwise. Results stay in .bench, and what fails loses no other's.
bench: install
	cd tests && $(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY)) \
		$(if $(SIZES),--sizes $(SIZES)) $(if $(ROWS),--rows $(ROWS)) $(if $(RUNS),--runs $(RUNS)) \
		$(if $(FILMS),--films $(abspath $(FILMS))) $(if $(DUCKDB2),--duckdb2 $(abspath $(DUCKDB2)))

clean:
	rm -rf $(VENV) $(VENV)-duckdb2 $(VENV)-extensions $(VENV)-spark .azurite .browser .cache site .enrichment dbt_project/target dbt_project/dbt_packages \
		dbt_project/logs $(WAREHOUSE)
