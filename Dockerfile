# gpu-gan in a container, for hosts with a GPU of NVIDIA, AMD or Intel, or without one.
#
#     docker build --tag gpu-gan .
#     docker run --rm --gpus all gpu-gan devices              NVIDIA; needs the NVIDIA Container Toolkit
#     docker run --rm --device /dev/dri gpu-gan devices       AMD and Intel
#     docker run --rm --gpus all --user "$(id -u):$(id -g)" --volume "$PWD:/work" gpu-gan train mnist
#
# The base is Debian 13. NVIDIA's driver, which the Container Toolkit mounts from the host, and Rust's binaries need glibc, so Alpine does
# not do. The images of NVIDIA hold CUDA, which gpu-gan does not use, and no driver for other GPUs. Debian has the Vulkan loader and Mesa's
# drivers as packages, and Mesa 25 of Debian 13 knows AMD's and Intel's GPUs of 2025.

FROM rust:1-slim-trixie AS build
WORKDIR /source
COPY . .
RUN cargo build --release --locked --bin gpu-gan

FROM debian:trixie-slim
# The Vulkan loader; the drivers of AMD and Intel, and a software driver; what NVIDIA's driver loads.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libvulkan1 mesa-vulkan-drivers libegl1 libx11-6 libxext6 \
    && rm -rf /var/lib/apt/lists/*
# Without `graphics`, the NVIDIA Container Toolkit mounts no Vulkan driver.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=graphics,utility
# The cache of images, classifiers and tuned kernels, and that of Mesa's drivers, for any user. A volume here keeps them.
RUN mkdir --mode=1777 /cache /work
ENV GPU_GAN_CACHE=/cache XDG_CACHE_HOME=/cache
COPY --from=build /source/target/release/gpu-gan /usr/local/bin/
COPY LICENSE-MIT LICENSE-APACHE data/README.md /usr/local/share/doc/gpu-gan/
WORKDIR /work
ENTRYPOINT ["gpu-gan"]
