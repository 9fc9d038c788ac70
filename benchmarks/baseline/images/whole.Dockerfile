# The same, with the whole workspace copied in, as many projects do.
FROM python:3.13-slim-trixie AS dependencies
RUN python -m venv /opt/rpa
COPY requirements/runtime.txt /tmp/runtime.txt
RUN --mount=type=secret,id=pip_config,target=/etc/pip.conf --mount=type=secret,id=ca_bundle,target=/tmp/ca.pem \
    if [ -s /tmp/ca.pem ]; then export PIP_CERT=/tmp/ca.pem; fi; \
    /opt/rpa/bin/pip install --no-cache-dir --no-deps --require-hashes -r /tmp/runtime.txt && \
    /opt/rpa/bin/pip uninstall --yes --quiet pip && python -m compileall -q /opt/rpa/lib

FROM python:3.13-slim-trixie AS base
RUN useradd --uid 10001 rpa && find / -xdev -perm /6000 -exec chmod ug-s {} +
COPY --from=dependencies /opt/rpa /opt/rpa
ENV PATH=/opt/rpa/bin:$PATH PYTHONPATH=/app/packages/core/src:/app/packages/flows/src HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY . /app
RUN python -m compileall -q /app/packages && python -m rpa_core.cli.main --version
WORKDIR /app
USER 10001:10001
EXPOSE 8080
HEALTHCHECK CMD ["python", "-m", "rpa_core.cli.main", "health"]
ENTRYPOINT ["python", "-m", "rpa_core.cli.main"]

FROM base AS flow1
RUN python -c "import rpa_flows.rpa1"
CMD ["run", "rpa_flows.rpa1:FLOW"]

FROM base AS flow2
RUN python -c "import rpa_flows.rpa2"
CMD ["run", "rpa_flows.rpa2:FLOW"]

FROM base AS flow3
RUN python -c "import rpa_flows.rpa3"
CMD ["run", "rpa_flows.rpa3:FLOW"]
