"""Speed, load, start and memory of TuneLab beside its peers: ``make bench``, or ``python -m benchmarks --help``.

Everything that is compared runs in processes of its own and takes turns, because machines drift while they measure.
"""
