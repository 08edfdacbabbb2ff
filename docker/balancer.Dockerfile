# The balancer and what it imports. At the root of the repository:
#   docker build -f docker/balancer.Dockerfile -t llm-bench-lb:1.0.0 .

ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS packages
# Where pip looks, if not on PyPI: `--build-arg PIP_INDEX_URL=...`. Nothing of this stage is
# in the image.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_TRUSTED_HOST
RUN python -m venv --without-pip /opt/venv
COPY lb/requirements.txt /tmp/
RUN pip --python /opt/venv/bin/python install --no-cache-dir --only-binary :all: \
    -r /tmp/requirements.txt
COPY pyproject.toml /app/
COPY lb /app/lb
RUN python -m compileall -q /app

FROM ${PYTHON}
COPY --from=packages /opt/venv /opt/venv
COPY --from=packages /app /app
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "lb"]
