# optrelay as one image: every service of docker-compose.yml runs it with another command.

FROM python:3.11-slim AS build
# Both are for builds behind a mirror of your own, and are unset otherwise.
ARG PIP_INDEX_URL
ARG PIP_TRUSTED_HOST
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/optrelay
WORKDIR /src
# The locked packages first: this layer is built again only when the lock changes.
COPY requirements.lock ./
RUN /opt/optrelay/bin/pip install --require-hashes --only-binary :all: -r requirements.lock
COPY pyproject.toml README.md ./
COPY optrelay optrelay
COPY consent consent
COPY producers producers
COPY worker worker
COPY console console
COPY sandbox sandbox
RUN /opt/optrelay/bin/pip install --no-deps . \
    && /opt/optrelay/bin/python -m compileall -q /opt/optrelay/lib \
    && /opt/optrelay/bin/pip uninstall --yes setuptools pip

FROM python:3.11-slim
RUN groupadd --system --gid 10001 optrelay \
    && useradd --system --uid 10001 --gid optrelay --no-create-home --shell /usr/sbin/nologin optrelay
COPY --from=build /opt/optrelay /opt/optrelay
ENV PATH=/opt/optrelay/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# optrelay.toml, if there is one, is read from here.
WORKDIR /etc/optrelay
USER 10001:10001
ENTRYPOINT ["optrelay"]
CMD ["--help"]
