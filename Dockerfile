# All programs of fwn, and the server, on CPUs:
#   docker build -t fwn .
#   docker run --rm -p 8000:8000 fwn serve --host=0.0.0.0
# On NVIDIA GPUs (CUDA comes with the Python packages; the machine needs a driver and NVIDIA's container toolkit):
#   docker build --build-arg EXTRAS=serve,gpu -t fwn:gpu .
#   docker run --rm --gpus=all -p 8000:8000 fwn:gpu serve --host=0.0.0.0
FROM python:3.12-slim-bookworm AS build
ARG EXTRAS=serve
# What `fwn --version` says: --build-arg COMMIT=$(git rev-parse HEAD)
ARG COMMIT=unknown
WORKDIR /source
COPY . .
RUN printf '%s\n' "${COMMIT}" > fwn/commit.txt \
    && python -m venv /opt/fwn \
    && /opt/fwn/bin/pip install --no-cache-dir -c constraints/pinned.txt --build-constraint constraints/pinned.txt ".[${EXTRAS}]"

FROM python:3.12-slim-bookworm
COPY --from=build /opt/fwn /opt/fwn
RUN useradd --create-home --uid=1000 fwn
USER 1000
# Compiled programs are kept in the home folder; mount a volume there to keep them beyond the container.
VOLUME /home/fwn/.cache
WORKDIR /home/fwn
ENV PATH=/opt/fwn/bin:$PATH
EXPOSE 8000
ENTRYPOINT ["fwn"]
CMD ["--help"]
