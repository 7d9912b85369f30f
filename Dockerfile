# One image for every Trimtab process; docker-compose.yml says which command each container runs.
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 RAY_USAGE_STATS_ENABLED=0
WORKDIR /opt/trimtab

# The heavy, seldom-changing part first, so that a change of our code rebuilds in seconds.
COPY constraints.txt ./
RUN pip install -c constraints.txt "$(grep '^torch==' constraints.txt)"

COPY pyproject.toml README.md LICENSE ./
COPY client client
COPY search search
COPY service service
COPY trainers trainers
COPY workers workers
COPY migrations migrations
COPY examples examples
RUN pip install -c constraints.txt ./client .

RUN useradd --create-home trimtab && mkdir -p /var/lib/trimtab && chown trimtab /var/lib/trimtab
USER trimtab
ENV TRIMTAB_HOME=/var/lib/trimtab
EXPOSE 8787
CMD ["python", "-m", "service.api"]
