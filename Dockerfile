# The README's two commands without setting anything up:
#
#   docker build -t vggkit .
#   mkdir -m 777 html
#   docker run --rm -v "$PWD/html:/home/reader/vggkit/book/_build/html" vggkit make book
#   docker run --rm vggkit papermill notebooks/run.ipynb out.ipynb -p dataset synthetic -p epochs 3
#
# User 1000 writes into the mounted folder; what is not mounted goes with the container.
# --build-arg TORCH="torch==2.13.0 --index-url URL" chooses torch's build, as in the README; the default one for Linux
# brings CUDA along.
# The base image is pinned by its tag. A digest would be stricter, and is to be looked up where there is a registry.
FROM python:3.12.12-slim-bookworm

# make runs the commands; long runs are compiled, which takes a C++ compiler. Versions are the base image's matter.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ make \
    && rm -rf /var/lib/apt/lists/*

# The folder that is mounted at, too: docker would make the folders above a mount for root.
RUN useradd --create-home --uid 1000 reader \
    && mkdir -p /home/reader/vggkit/book/_build/html \
    && chown -R reader: /home/reader/vggkit
USER 1000
WORKDIR /home/reader/vggkit

# The packages first: they stay in their layer as long as the lock does, whatever else changes.
ARG TORCH=torch==2.13.0
COPY --chown=1000 Makefile pyproject.toml requirements.lock README.md LICENSE ./
COPY --chown=1000 vggkit/__init__.py vggkit/
RUN PIP_NO_CACHE_DIR=1 make setup TORCH="$TORCH"

COPY --chown=1000 . .
RUN touch .venv/ready
ENV PATH=/home/reader/vggkit/.venv/bin:$PATH

ARG SOURCE=""
ARG REVISION=""
ARG VERSION=""
LABEL org.opencontainers.image.title="vggkit" \
      org.opencontainers.image.description="Why very deep plain networks stop learning: the report, its runs and its library" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.version="$VERSION"

CMD ["make", "book"]
