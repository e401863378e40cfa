"""Timing and output that the Python peers share: one JSON line a figure, as bench -json has them."""

import json
import resource
import statistics
import time


def rounds(f, count, seconds=0.0):
    """Seconds per call of f for each of count rounds; a round is one call, or as many as fill the given seconds."""
    start = time.perf_counter()
    f()
    calls = max(1, int(seconds / (time.perf_counter() - start)))
    times = []
    for _ in range(count):
        start = time.perf_counter()
        for _ in range(calls):
            f()
        times.append((time.perf_counter() - start) / calls)
    return times


def emit(name, device, threads, work, unit, times):
    """work is what one call does, in units of the unit: tokens, steps, GFLOP."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({
        'name': name, 'device': device, 'threads': threads, 'value': work / statistics.median(times), 'unit': unit,
        'higher_is_better': True, 'best': work / min(times), 'peak_mib': round(peak)}), flush=True)
