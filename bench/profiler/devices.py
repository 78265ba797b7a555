"""What devices can do at most: dense matrix products in 10^12 floating-point operations per second, by precision.

Vendors' figures without sparsity (half of what their sheets give with it), at boost clock, sums in fp32. A device that
is not listed is unknown, and so are slices of one (MIG) and boards of a similar name.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import torch


class Peak(NamedTuple):
    """10^12 per second; None: it has no such units."""

    fp16: float
    bf16: float | None
    tf32: float | None
    fp32: float


# by all of the name that CUDA or ROCm gives the device, without the vendor's
PEAKS: dict[str, Peak] = {
    r"V100-SXM2-\d+GB": Peak(125, None, None, 15.7),  # NVIDIA Tesla V100 data sheet, 2018
    r"V100-PCIE-\d+GB": Peak(112, None, None, 14),  # as above
    r"T4": Peak(65, None, None, 8.1),  # NVIDIA T4 data sheet, 2019
    r"A10": Peak(125, 125, 62.5, 31.2),  # NVIDIA A10 data sheet, 2021
    r"A30": Peak(165, 165, 82, 10.3),  # NVIDIA A30 data sheet, 2021
    r"A40": Peak(149.7, 149.7, 74.8, 37.4),  # NVIDIA A40 data sheet, 2021
    r"A100-(SXM4|PCIE)-\d+GB|A100 80GB PCIe": Peak(312, 312, 156, 19.5),  # NVIDIA A100 data sheet, 2021
    r"L4": Peak(121, 121, 60, 30.3),  # NVIDIA L4 data sheet, 2023
    r"L40S": Peak(362.05, 362.05, 183, 91.6),  # NVIDIA L40S data sheet, 2023: TF32 is given as 183 | 366 with sparsity
    r"GeForce RTX 3090": Peak(71, 71, 35.6, 35.6),  # NVIDIA GA102 white paper, appendix
    r"GeForce RTX 4090": Peak(165.2, 165.2, 82.6, 82.6),  # NVIDIA Ada white paper, appendix
    r"H100 80GB HBM3": Peak(989.5, 989.5, 494.5, 67),  # NVIDIA H100 data sheet, 2023: SXM, 1,979 with sparsity
    r"H100 PCIe": Peak(756, 756, 378, 51),  # NVIDIA H100 data sheet, 2022: PCIe, 1,513 with sparsity
    r"H100 NVL": Peak(835.5, 835.5, 417.5, 60),  # NVIDIA H100 data sheet, 2024: 1,671 with sparsity
    r"H200": Peak(989.5, 989.5, 494.5, 67),  # NVIDIA H200 data sheet, 2024: SXM, 1,979 with sparsity
    r"B200": Peak(2250, 2250, 1100, 75),  # NVIDIA HGX B200 data sheet, 2025: 4,500, and in TF32 2,200, with sparsity
    r"Instinct MI250X.*": Peak(191.5, 191.5, None, 47.9),  # AMD MI250X data sheet, 2021: a device is half of its 383
    r"Instinct MI300X.*": Peak(1307.4, 1307.4, 653.7, 163.4),  # AMD MI300X data sheet, 2023
}
VENDORS = re.compile(r"^(NVIDIA|AMD)? ?(Tesla)? ?")


def peak(device: torch.device, precision: str) -> float | None:
    """Operations per second of `device` in `precision` (fp32, fp16 or bf16), as torch now multiplies in it."""
    if device.type != "cuda":
        return None
    units = "tf32" if precision == "fp32" and multiplies_in_tf32() else precision
    return peak_of(torch.cuda.get_device_name(device), units)


def peak_of(name: str, units: str) -> float | None:
    bare = VENDORS.sub("", name)
    found = next((peak for pattern, peak in PEAKS.items() if re.fullmatch(pattern, bare)), None)
    figure: float | None = getattr(found, units, None)
    return None if figure is None else figure * 1e12


def multiplies_in_tf32() -> bool:
    """Whether torch may take TF32 for products in fp32. Since 2.9 asking in the old way may raise."""
    settings: Any = torch.backends.cuda.matmul
    precision: str | None = getattr(settings, "fp32_precision", None)
    return settings.allow_tf32 if precision is None else precision == "tf32"
