# The dashboard: docker build -t cam . && docker run -p 127.0.0.1:8501:8501 cam
# With PyTorch for NVIDIA's GPUs: docker build --build-arg TORCH_INDEX= -t cam:cuda .
FROM python:3.11-slim-bookworm

# PyTorch's wheels for CPUs are a tenth of those for GPUs, which PyPI has (an empty index).
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

WORKDIR /app
COPY requirements ./requirements
RUN pip install ${TORCH_INDEX:+--extra-index-url ${TORCH_INDEX}} \
    -r requirements/core.txt -r requirements/evaluate.txt -r requirements/video.txt \
    -r requirements/dashboard.txt -r requirements/hf.txt -r requirements/fast.txt
COPY pyproject.toml setup.py README.md LICENSE ./
COPY cam ./cam
COPY kernels ./kernels
COPY pages ./pages
COPY benchmarks/results ./benchmarks/results
COPY .streamlit ./.streamlit
RUN pip install --no-deps '.[dashboard]' && rm -rf /app/*

# Runs lie in a volume, and nobody but their owner writes anything else.
RUN useradd --create-home --uid 1000 cam && mkdir /runs /data && chown cam /runs
USER cam
WORKDIR /home/cam
VOLUME /runs
ENV CAM_RUNS=/runs CAM_DATA_ROOTS=/data OMP_WAIT_POLICY=PASSIVE \
    STREAMLIT_SERVER_ADDRESS=0.0.0.0
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-c", \
    "import urllib.request; urllib.request.urlopen('http://localhost:8501/_stcore/health', timeout=4)"]
# In place of the shell, so that the server itself is asked to stop, and ends its runs.
CMD ["python", "-m", "cam", "dashboard", "--port", "8501"]
