# The service, its worker and its commands: `docker build -t loadbay .`
# It writes to /data (SQLite, if DATABASE_URL names nothing else) and /dev/shm, and so runs with `--read-only`.

FROM python:3.11-slim AS build
COPY requirements.lock /
RUN python -m venv --without-pip /venv \
    && pip --python /venv/bin/python install --no-cache-dir --require-hashes -r /requirements.lock

FROM python:3.11-slim
# A volume at /data, or at /run/loadbay for a socket that nginx finds, takes its owner from here.
RUN useradd --system --uid 10001 --no-create-home loadbay \
    && install -d -o loadbay -g loadbay /data /run/loadbay
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TMPDIR=/dev/shm \
    PORT=8000 \
    DATABASE_URL=sqlite:////data/loadbay.db
COPY --from=build /venv /venv
WORKDIR /srv/loadbay
# .dockerignore says what of it is needed.
COPY . .
# Nobody else may write there, and each start would compile them anew.
RUN python -m compileall -q .
# By number, so that Kubernetes sees that it is not root.
USER 10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["python", "deploy/healthcheck.py"]
CMD ["gunicorn", "wsgi:app"]
