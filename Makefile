# Every habit of the house; `make help` lists them. Programs run in the environment $(VENV), which is made on first use.
PYTHON ?= python3
VENV ?= .venv
CONFIG ?=
WORKDIR ?= runs/$(basename $(notdir $(CONFIG)))
INPUT ?=
OUTPUT ?=
CORPUS ?= ljspeech
ARGS ?=
DEMO ?= demo
DEMO_STEPS ?= 300
TRIALS ?= 500
KILLS ?= 100
COMPARE ?= runs/compare
COMPARE_STEPS ?= 300
DATA ?=
CKPT ?=
PAGE ?= build/page/$(name)
CLIPS ?= 6
VOICE ?= runs/lj-mini
VOICE_DATA ?= data/lj-mini
BENCH_SECONDS ?= 1 5 10
BENCH_BATCHES ?= 1 8 32
MINUTES ?= 30
FLOWAVENET ?=

name = $(notdir $(patsubst %/,%,$(CKPT)))
run := $(VENV)/bin/python -m
ready := $(VENV)/.ready
pins := constraints/pinned.txt
hashes := constraints/hashes.txt

.SILENT:
.DELETE_ON_ERROR:
.PHONY: help install format lint types test test-all lock audit release-check chaos smoke data train demo voice page bench bench-gpu compare docs clean

help: ## list these targets
	awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

install: $(ready) ## make the environment .venv with pinned packages (PYTHON=python3.12 to choose the interpreter)

# Python is checked first, so that what is missing is said in one line instead of by a traceback.
$(ready): setup.cfg $(pins)
	command -v "$(PYTHON)" >/dev/null || { echo "make: there is no $(PYTHON); name yours: make PYTHON=/path/to/python3" >&2; exit 1; }
	"$(PYTHON)" -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"make: $(PYTHON) is Python {v[0]}.{v[1]}, fwn needs 3.11 or newer; name another: make PYTHON=python3.12")'
	"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "make: $(PYTHON) lacks its venv module; install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	echo "[install] pinned packages into $(VENV), one to three minutes"
	"$(PYTHON)" -m venv "$(VENV)"
	$(run) pip install -q --disable-pip-version-check -c $(pins) pip
	$(run) pip install -q -c $(pins) --build-constraint $(pins) -e '.[dev,demo]'
	$(run) pip install -q -c $(pins) --build-constraint $(pins) -e '.[eval]' 2>"$(VENV)/eval.log" || \
		echo "[install] no PESQ and no WORLD F0 in the metrics: pesq and pyworld did not compile ($(VENV)/eval.log); all else works"
	touch $@

format: $(ready) ## rewrite the code in the house style
	$(run) ruff check -q --fix . || true
	$(run) ruff format .

lint: $(ready) ## check the style, change nothing
	$(run) ruff check .
	$(run) ruff format --check .

types: $(ready) ## check the type hints
	$(run) mypy

test: $(ready) ## run the tests on all cores, but for those of tests/long.py (ARGS="-k name" for some of them)
	$(run) pytest -n auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder --durations=20 $(ARGS)

test-all: $(ready) ## run all tests
	$(MAKE) --no-print-directory test ARGS="--all $(ARGS)"

lock: $(ready) ## write constraints/hashes.txt anew, after a change of constraints/pinned.txt
	$(run) pip install -q uv
	$(VENV)/bin/uv pip compile -q setup.cfg --extra=dev --extra=demo --extra=eval --extra=serve -c $(pins) --universal \
		--python-version=3.11 --generate-hashes --no-annotate --no-header > $(hashes).new
	{ grep '^#' $(hashes); cat $(hashes).new; } > $(hashes).both
	mv $(hashes).both $(hashes) && rm $(hashes).new

audit: $(ready) ## look up known vulnerabilities of the pinned packages
	$(run) pip install -q pip-audit
	$(VENV)/bin/pip-audit --requirement=$(hashes) --require-hashes --disable-pip

release-check: $(ready) ## build the sdist and the wheel of the last commit, and try both under each Python found here
	$(run) pip install -q twine
	$(run) tools.release_check

chaos: $(ready) ## damage what fwn reads, kill what writes, and count how it ends (TRIALS=500 KILLS=100, each)
	PYTHONPATH=. $(VENV)/bin/python tests/chaos.py --trials=$(TRIALS) --kills=$(KILLS)

smoke: $(ready) ## the demo end to end in build/smoke, with 20 steps of training
	rm -rf build/smoke
	$(MAKE) --no-print-directory demo DEMO=build/smoke DEMO_STEPS=20

data: $(ready) ## prepare a corpus: INPUT=folder OUTPUT=folder [CORPUS=ljspeech|folder|vctk|libritts|arctic|jsut|csmsc] [ARGS="--workers=8"]
	test -n "$(INPUT)" -a -n "$(OUTPUT)" || { echo "make: name both folders: make data INPUT=LJSpeech-1.1 OUTPUT=data/ljspeech" >&2; exit 1; }
	$(run) data_prep.prepare --corpus=$(CORPUS) --input="$(INPUT)" --output="$(OUTPUT)" $(ARGS)

train: $(ready) ## train: CONFIG=file [WORKDIR=runs/name] [ARGS="--config.batch_size=2"]
	test -n "$(CONFIG)" || { echo "make: name a configuration: make train CONFIG=experiments/base.py" >&2; exit 1; }
	$(run) fwn.train --config="$(CONFIG)" --workdir="$(WORKDIR)" $(ARGS)

demo: $(ready) ## hear it in under 10 minutes: the voice in the box, then one trained here, from the first step on
	echo "[1/7] voices/lj-mini says a held-out sentence, by its mel: $(DEMO)/voice"
	$(run) fwn.sample --mel=voices/lj-mini/mels --output="$(DEMO)/voice"
	echo "[2/7] speaking a few dozen sentences with eSpeak NG into $(DEMO)/corpus"
	$(run) data_prep.speak --output="$(DEMO)/corpus"
	echo "[3/7] preparing audio and mels in $(DEMO)/data"
	$(run) data_prep.prepare --corpus=ljspeech --input="$(DEMO)/corpus" --output="$(DEMO)/data"
	echo "[4/7] one step of experiments/demo.py in $(DEMO)/first: what linear prediction from the mel brings by itself"
	$(run) fwn.train --config=experiments/demo.py --workdir="$(DEMO)/first" --config.data="$(DEMO)/data" --config.num_steps=1 --config.eval_batches=1
	$(run) fwn.evaluate --ckpt="$(DEMO)/first" --data="$(DEMO)/data" --output="$(DEMO)/results_first"
	echo "[5/7] training experiments/demo.py for $(DEMO_STEPS) steps in $(DEMO)/run, its predictor begun with the voice's"
	$(run) fwn.train --config=experiments/demo.py --workdir="$(DEMO)/run" --config.data="$(DEMO)/data" --config.num_steps=$(DEMO_STEPS) \
		--init_from=voices/lj-mini --init_parts=prediction --init_parts=autoregression
	echo "[6/7] copying the held-out sentences and measuring the copies into $(DEMO)/results"
	$(run) fwn.evaluate --ckpt="$(DEMO)/run" --data="$(DEMO)/data" --output="$(DEMO)/results"
	echo "[7/7] a page with all of them"
	rm -rf "$(DEMO)/page"
	$(run) fwn.listening build --systems="After one step=$(DEMO)/results_first" --systems="After $(DEMO_STEPS) steps=$(DEMO)/results" \
		--title="Recordings and their copies" --output="$(DEMO)/page"
	echo "Done. The voice in the box: $(DEMO)/voice. The copies, their figures and the loss curve: $(DEMO)/results."
	echo "To hear all, beside the recordings, open $(DEMO)/page/demo/index.html"

voice: $(ready) ## train voices/lj-mini on and on, at low priority, from where it was: INPUT=LJSpeech's folder, the first time
	test -e "$(VOICE_DATA)" -o -n "$(INPUT)" || { echo "make: name the recordings, the first time: make voice INPUT=LJSpeech-1.1" >&2; exit 1; }
	test -e "$(VOICE_DATA)" || $(run) data_prep.prepare --corpus=ljspeech --input="$(INPUT)" --output="$(VOICE_DATA)"
	nice -n 19 $(run) fwn.train --config=experiments/lj_mini.py --workdir="$(VOICE)" --config.data="$(VOICE_DATA)" \
		$(if $(wildcard voices/lj-mini/weights.npz),--init_from=voices/lj-mini) $(ARGS)

page: $(ready) ## a web page of held-out recordings, a model's copies and its figures: CKPT=workdir DATA=prepared folder [PAGE=folder] [CLIPS=6]
	test -n "$(CKPT)" -a -n "$(DATA)" || { echo "make: name a model and a data set: make page CKPT=runs/base DATA=data/ljspeech" >&2; exit 1; }
	test ! -e "$(PAGE)" || { echo "make: $(PAGE) is already there; remove it, or name another folder: PAGE=folder" >&2; exit 1; }
	echo "[1/2] copying the held-out recordings at three temperatures and measuring the copies into $(PAGE)/results"
	$(run) fwn.evaluate --ckpt="$(CKPT)" --data="$(DATA)" --temperature=0.6 --temperature=0.8 --temperature=1.0 \
		--output="$(PAGE)/results" $(ARGS)
	echo "[2/2] writing the page, and a listening test beside it, into $(PAGE)/listening"
	$(run) fwn.listening build --systems="$(name)=$(PAGE)/results@0.8" --utterances=$(CLIPS) \
		--title="Recordings and their copies" --output="$(PAGE)/listening"

# The systems of `make compare`: workdir below $(COMPARE), experiment, what is other than in that. Teachers come first.
# None has linear prediction, which students and their teachers cannot have.
define systems
flowavenet tiny --config.model.prediction.order=0
flowavenet_causal tiny --config.model.prediction.order=0 --config.model.causal=True
flowavenet_no_split tiny --config.model.prediction.order=0 --config.model.block_per_split=4
wavenet_gaussian tiny_wavenet
wavenet_mol tiny_wavenet_mol
clarinet tiny_clarinet --config.teacher=$(COMPARE)/wavenet_gaussian
clarinet_kl tiny_clarinet --config.teacher=$(COMPARE)/wavenet_gaussian --config.loss.frame=0.0
clarinet_frame tiny_clarinet --config.teacher=$(COMPARE)/wavenet_gaussian --config.loss.kl=0.0 --config.loss.regularisation=0.0
parallel_wavenet tiny_parallel_wavenet --config.teacher=$(COMPARE)/wavenet_mol
endef
export systems

bench: $(ready) ## how fast it samples and trains here: [CONFIG=experiments/base.py] [ARGS="--seconds=10"]
	$(run) fwn.bench --config="$(or $(CONFIG),experiments/base.py)" $(ARGS)

bench-gpu: $(ready) ## measure on a GPU what matters most, first, at most MINUTES=30; again to go on: build/bench/report.md [FLOWAVENET=checkout]
	$(VENV)/bin/python benchmarks/accelerator.py --minutes=$(MINUTES) --output=build/bench \
		$(addprefix --seconds=,$(BENCH_SECONDS)) $(addprefix --batch_size=,$(BENCH_BATCHES)) \
		$(if $(FLOWAVENET),"--flowavenet=$(FLOWAVENET)") $(ARGS)

compare: $(ready) ## train small versions of all systems, COMPARE_STEPS steps each, and compare them [COMPARE=folder] [DATA=prepared folder]
	set -e; data="$(DATA)"; n=$$(printf '%s\n' "$$systems" | wc -l); i=0; ckpts=; \
	if [ -z "$$data" ]; then \
		data="$(COMPARE)/data"; echo "[0/$$((n + 1))] no DATA was named: speaking the demo's sentences, preparing them in $$data"; \
		$(run) data_prep.speak --output="$(COMPARE)/corpus"; \
		$(run) data_prep.prepare --corpus=ljspeech --input="$(COMPARE)/corpus" --output="$$data"; \
	fi; \
	printf '%s\n' "$$systems" | { while read -r name experiment flags; do \
		i=$$((i + 1)); ckpts="$$ckpts$${ckpts:+,}$(COMPARE)/$$name"; \
		echo "[$$i/$$((n + 1))] training $(COMPARE)/$$name for $(COMPARE_STEPS) steps: experiments/$$experiment.py $$flags"; \
		$(run) fwn.train --config=experiments/$$experiment.py --workdir="$(COMPARE)/$$name" --config.data="$$data" \
			--config.num_steps=$(COMPARE_STEPS) $$flags </dev/null; \
	done; \
	echo "[$$((n + 1))/$$((n + 1))] comparing them into $(COMPARE)/results"; \
	$(run) fwn.compare --ckpts="$$ckpts" --data="$$data" --output="$(COMPARE)/results" \
		--temperature=0.8 --temperature=0.6 --temperature=1.0 $(ARGS) </dev/null; }
	echo "Done. $(COMPARE)/results holds the tables, pictures and comparison.json. With more COMPARE_STEPS it goes on from here."

docs: $(ready) ## the documentation as a site: build/docs/index.html
	$(run) sphinx -q -W -E -j auto docs build/docs
	echo "build/docs/index.html"

clean: ## remove the environment, caches, build outputs and the demo; runs/ stays
	rm -rf "$(VENV)" build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache "$(DEMO)"
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
