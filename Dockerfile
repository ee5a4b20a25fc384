# docker build -t muomni .                                                    CPU and CUDA: pip's own build of torch
# docker build -t muomni --build-arg TORCH_OPTIONS="..." .                    options of pip that name CPU builds: a tenth of the size
# docker run --rm -p 127.0.0.1:8000:8000 -e MUOMNI_KEY=... -v ./checkpoints:/checkpoints:ro muomni
FROM python:3.11-slim
ARG TORCH_OPTIONS=
RUN useradd --create-home --home-dir /srv/muomni --uid 1000 muomni
WORKDIR /app
# First what changes seldom. Nothing of training: no Lightning, no W&B, no matplotlib.
COPY muomni/inference/requirements.txt inference.txt
COPY muomni/serving/requirements.txt serving.txt
RUN pip install --no-cache-dir $TORCH_OPTIONS "torch>=2.11,<2.12" "torchaudio>=2.11,<2.12" \
    && pip install --no-cache-dir -r inference.txt -r serving.txt
COPY pyproject.toml README.md LICENSE MANIFEST.in train.py infer.py serve.py ./
COPY conf conf
COPY muomni muomni
COPY datamodules datamodules
COPY callbacks callbacks
RUN pip install --no-cache-dir --no-deps .
USER muomni
WORKDIR /srv/muomni
ENV MPLCONFIGDIR=/tmp PYTHONUNBUFFERED=1
EXPOSE 8000
# SIGTERM ends the server after its running answers; give it the grace and five seconds more.
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=60s CMD python -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health')"
ENTRYPOINT ["muomni-serve"]
CMD ["ckpt=/checkpoints/omni_sft", "host=0.0.0.0"]
