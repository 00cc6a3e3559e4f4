# The nightly job, and any other command of recsys-ae. See docs/running.md.
# BASE: any image of Debian or Ubuntu with Python 3.11 or later, or where apt has it (those of CUDA).
ARG BASE=python:3.11-slim

FROM ${BASE} AS python
RUN command -v python3 >/dev/null \
    || (apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*)

FROM python AS build
# EXTRAS: of pyproject.toml. TORCH_INDEX: a further index with builds of torch, for one without CUDA.
ARG EXTRAS=mlflow
ARG TORCH_INDEX=
WORKDIR /src
RUN python3 -m venv /opt/venv
COPY constraints.txt ./
# Torch first, in a layer of its own: it is most of the image, and a change of the code leaves it alone.
RUN /opt/venv/bin/pip install --no-cache-dir -c constraints.txt ${TORCH_INDEX:+--extra-index-url ${TORCH_INDEX}} torch
COPY pyproject.toml README.md LICENSE ./
COPY recsys_ae recsys_ae
COPY pipelines pipelines
COPY service service
RUN /opt/venv/bin/pip install --no-cache-dir -c constraints.txt ".[${EXTRAS}]"

FROM python
# The number, so that Kubernetes can see that it is not root.
RUN useradd --create-home --uid 10001 recsys && install -d -o recsys /data
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /data
VOLUME /data
ENTRYPOINT ["recsys-ae"]
CMD ["--help"]
