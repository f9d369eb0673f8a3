"""Instance types: labels with vCPUs, memory, GPUs and a price.

What a type promises matters only where capacity is ``strict`` and where costs are estimated. A type
that is not in the table is accepted with the size of ``ml.m5.large``, so that a type that AWS adds
tomorrow works today.
"""

from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceType:
    """What one instance of a type has."""

    name: str
    vcpus: int
    memory_gib: float
    gpus: int = 0
    """NVIDIA GPUs. AWS's own accelerators (inf1, inf2) are not counted: they do not exist here."""

    price_usd_per_hour: float | None = None
    """About AWS's list price for hosting in us-east-1, for estimates. None: not known."""


# One line a type: name without "ml.", vCPUs, memory in GiB, GPUs, USD per hour ("-": not known).
# Sizes are from AWS's instance type pages; prices were on the SageMaker price list in 2024-25.
_TABLE = """
t2.medium 2 4 0 0.0557          t2.large 2 8 0 0.111
t2.xlarge 4 16 0 0.223          t2.2xlarge 8 32 0 0.445
t3.medium 2 4 0 0.05            t3.large 2 8 0 0.10
t3.xlarge 4 16 0 0.20           t3.2xlarge 8 32 0 0.399
m4.xlarge 4 16 0 0.24           m4.2xlarge 8 32 0 0.48
m4.4xlarge 16 64 0 0.96         m4.10xlarge 40 160 0 2.40
m4.16xlarge 64 256 0 3.84
m5.large 2 8 0 0.115            m5.xlarge 4 16 0 0.23
m5.2xlarge 8 32 0 0.461         m5.4xlarge 16 64 0 0.922
m5.12xlarge 48 192 0 2.765      m5.24xlarge 96 384 0 5.53
m5d.large 2 8 0 0.136           m5d.xlarge 4 16 0 0.271
m5d.2xlarge 8 32 0 0.542        m5d.4xlarge 16 64 0 1.085
m5d.12xlarge 48 192 0 3.254     m5d.24xlarge 96 384 0 6.509
m6i.large 2 8 0 0.115           m6i.xlarge 4 16 0 0.23
m6i.2xlarge 8 32 0 0.461        m6i.4xlarge 16 64 0 0.922
m6i.8xlarge 32 128 0 1.843      m6i.12xlarge 48 192 0 2.765
m6i.16xlarge 64 256 0 3.686     m6i.24xlarge 96 384 0 5.53
m6i.32xlarge 128 512 0 7.373
m7i.large 2 8 0 0.121           m7i.xlarge 4 16 0 0.242
m7i.2xlarge 8 32 0 0.484        m7i.4xlarge 16 64 0 0.968
m7i.8xlarge 32 128 0 1.935      m7i.12xlarge 48 192 0 2.903
m7i.16xlarge 64 256 0 3.871     m7i.24xlarge 96 384 0 5.806
m7i.48xlarge 192 768 0 11.612
c4.large 2 3.75 0 0.119         c4.xlarge 4 7.5 0 0.239
c4.2xlarge 8 15 0 0.477         c4.4xlarge 16 30 0 0.955
c4.8xlarge 36 60 0 1.909
c5.large 2 4 0 0.102            c5.xlarge 4 8 0 0.204
c5.2xlarge 8 16 0 0.408         c5.4xlarge 16 32 0 0.816
c5.9xlarge 36 72 0 1.836        c5.18xlarge 72 144 0 3.672
c5d.large 2 4 0 0.115           c5d.xlarge 4 8 0 0.23
c5d.2xlarge 8 16 0 0.461        c5d.4xlarge 16 32 0 0.922
c5d.9xlarge 36 72 0 2.074       c5d.18xlarge 72 144 0 4.147
c6i.large 2 4 0 0.102           c6i.xlarge 4 8 0 0.204
c6i.2xlarge 8 16 0 0.408        c6i.4xlarge 16 32 0 0.816
c6i.8xlarge 32 64 0 1.632       c6i.12xlarge 48 96 0 2.448
c6i.16xlarge 64 128 0 3.264     c6i.24xlarge 96 192 0 4.896
c6i.32xlarge 128 256 0 6.528
c7i.large 2 4 0 0.107           c7i.xlarge 4 8 0 0.214
c7i.2xlarge 8 16 0 0.428        c7i.4xlarge 16 32 0 0.857
c7i.8xlarge 32 64 0 1.714       c7i.12xlarge 48 96 0 2.57
c7i.16xlarge 64 128 0 3.427     c7i.24xlarge 96 192 0 5.141
c7i.48xlarge 192 384 0 10.282
r5.large 2 16 0 0.151           r5.xlarge 4 32 0 0.302
r5.2xlarge 8 64 0 0.605         r5.4xlarge 16 128 0 1.21
r5.12xlarge 48 384 0 3.629      r5.24xlarge 96 768 0 7.258
r6i.large 2 16 0 0.151          r6i.xlarge 4 32 0 0.302
r6i.2xlarge 8 64 0 0.605        r6i.4xlarge 16 128 0 1.21
r6i.8xlarge 32 256 0 2.419      r6i.12xlarge 48 384 0 3.629
r6i.16xlarge 64 512 0 4.838     r6i.24xlarge 96 768 0 7.258
r6i.32xlarge 128 1024 0 9.677
g4dn.xlarge 4 16 1 0.736        g4dn.2xlarge 8 32 1 0.94
g4dn.4xlarge 16 64 1 1.505      g4dn.8xlarge 32 128 1 2.72
g4dn.12xlarge 48 192 4 4.89     g4dn.16xlarge 64 256 1 5.44
g5.xlarge 4 16 1 1.408          g5.2xlarge 8 32 1 1.515
g5.4xlarge 16 64 1 2.03         g5.8xlarge 32 128 1 3.06
g5.12xlarge 48 192 4 7.09       g5.16xlarge 64 256 1 5.12
g5.24xlarge 96 384 4 10.18      g5.48xlarge 192 768 8 20.36
g6.xlarge 4 16 1 -              g6.2xlarge 8 32 1 -
g6.4xlarge 16 64 1 -            g6.8xlarge 32 128 1 -
g6.12xlarge 48 192 4 -          g6.16xlarge 64 256 1 -
g6.24xlarge 96 384 4 -          g6.48xlarge 192 768 8 -
p2.xlarge 4 61 1 -              p2.8xlarge 32 488 8 -
p2.16xlarge 64 732 16 -
p3.2xlarge 8 61 1 3.825         p3.8xlarge 32 244 4 14.688
p3.16xlarge 64 488 8 28.152     p4d.24xlarge 96 1152 8 37.688
p5.4xlarge 16 256 1 -           p5.48xlarge 192 2048 8 -
inf1.xlarge 4 8 0 0.297         inf1.2xlarge 8 16 0 0.471
inf1.6xlarge 24 48 0 1.534      inf1.24xlarge 96 192 0 6.137
inf2.xlarge 4 16 0 -            inf2.8xlarge 32 128 0 -
inf2.24xlarge 96 384 0 -        inf2.48xlarge 192 768 0 -
"""

_UNKNOWN_VCPUS = 2
_UNKNOWN_MEMORY_GIB = 8.0


def instance_type(name: str) -> InstanceType:
    """Return what an instance of a type has.

    Args:
        name: Such as ``ml.m5.large``. One that is not known has the size of that one, and one GPU
            when its family is a GPU family (``ml.g*``, ``ml.p*``).
    """
    known = known_instance_types().get(name)
    if known is not None:
        return known
    has_gpu = name.startswith(("ml.g", "ml.p"))
    return InstanceType(
        name=name,
        vcpus=_UNKNOWN_VCPUS,
        memory_gib=_UNKNOWN_MEMORY_GIB,
        gpus=1 if has_gpu else 0,
    )


@cache
def known_instance_types() -> dict[str, InstanceType]:
    """Return the table, by name. Shared: leave it unchanged."""
    words = _TABLE.split()
    rows = zip(*(words[column::5] for column in range(5)), strict=True)
    return {
        f"ml.{name}": InstanceType(
            name=f"ml.{name}",
            vcpus=int(vcpus),
            memory_gib=float(memory),
            gpus=int(gpus),
            price_usd_per_hour=None if price == "-" else float(price),
        )
        for name, vcpus, memory, gpus, price in rows
    }
