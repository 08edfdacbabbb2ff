# The suite, which sends load from within a cluster. At the root of the repository:
#   docker build -f docker/suite.Dockerfile -t llm-bench:1.0.0 .

ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS packages
# Where pip looks, if not on PyPI: `--build-arg PIP_INDEX_URL=...`. Nothing of this stage is
# in the image.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_TRUSTED_HOST
RUN python -m venv --without-pip /opt/venv
COPY bench/requirements.txt /tmp/
RUN pip --python /opt/venv/bin/python install --no-cache-dir --only-binary :all: \
    -r /tmp/requirements.txt
COPY pyproject.toml /app/
COPY reports /app/reports
COPY bench /app/bench
# What the bench needs of the balancer.
COPY lb/__init__.py lb/version.py /app/lb/
COPY lb/discovery/__init__.py lb/discovery/engine_metrics.py /app/lb/discovery/
RUN python -m compileall -q /app

FROM ${PYTHON}
COPY --from=packages /opt/venv /opt/venv
COPY --from=packages /app /app
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# The user has no home: Matplotlib would warn that it cannot keep its caches there.
ENV MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /app
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "bench"]
