"""What a cell costs: the time of its steps, and the memory of each rank."""

from bench.profiler.clock import PhaseClock, StepClock
from bench.profiler.memory import Ledger

__all__ = ["Ledger", "PhaseClock", "StepClock"]
