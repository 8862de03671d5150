# syntax=docker/dockerfile:1
# snellen serve. Build: docker build -t snellen .   Run: see compose.yaml and docs/how-to/deploy.md

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/snellen
# the lower layer changes with versions only, the upper one with every line of source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src/snellen/__init__.py src/snellen/__init__.py
RUN /opt/snellen/bin/pip install ".[serve,dicom]" -c constraints.txt
COPY src src
RUN /opt/snellen/bin/pip install --no-deps --force-reinstall . \
 && /opt/snellen/bin/pip uninstall --yes pip \
 && find /opt/snellen -name '*.pyc' -delete \
 && /opt/snellen/bin/python -m compileall -q -j 0 /opt/snellen/lib

FROM python:3.13-slim
# a number: orchestrators that refuse root can tell it from one
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin snellen \
 && install -d -o 10001 -g 10001 -m 0700 /state
COPY --from=build /opt/snellen /opt/snellen
ENV PATH=/opt/snellen/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 SNELLEN_STATE=/state
USER 10001:10001
VOLUME /state
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["snellen"]
CMD ["serve", "/bundle", "--host", "0.0.0.0", "--port", "8080"]
