# vLLM's CPU build, as environment `local` has it, and the tiny models. At the root of the
# repository:
#   docker build -f docker/engine-cpu.Dockerfile -t llm-bench-engine-cpu:1.0.0 .

ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS packages
# Where pip looks, if not on PyPI: `--build-arg PIP_INDEX_URL=...`. Nothing of this stage is
# in the image.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_TRUSTED_HOST
# PyPI has no CPU build of torch.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python -m venv --without-pip /opt/venv
COPY bench/environments/local/requirements-engine.txt /tmp/requirements.txt
# The list is whole, and some packages ask for others that must not be there. Byte code is
# made below, for what is used.
RUN pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --no-compile \
    --extra-index-url "$TORCH_INDEX" "$(grep ^torch== /tmp/requirements.txt)"
RUN pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --no-compile \
    -r /tmp/requirements.txt
COPY bench /app/bench
WORKDIR /app
RUN /opt/venv/bin/python -m bench.environments.cpu_engine.models /opt/models

FROM ${PYTHON}
# A version that is pinned would be gone from the distribution's servers after its next update.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libnuma1 \
    && rm -rf /var/lib/apt/lists/*
# torch asks for the user's name.
RUN useradd --uid 65532 --user-group --no-create-home --shell /usr/sbin/nologin engine
COPY --from=packages /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
# Shows that it works, and makes the byte code of what a server imports.
RUN python -c "import vllm.entrypoints.openai.api_server"
COPY --from=packages /opt/models /opt/models
ENV PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
EXPOSE 8000
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "vllm.entrypoints.openai.api_server"]
