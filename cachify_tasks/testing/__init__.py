"""For tests of programs that use this package: a memory whose clock you move, and a checker of what a store holds."""

from .checker import assert_sound, check
from .clock import Clock, memory
from .problems import Kind, Problem

__all__ = ["Clock", "Kind", "Problem", "assert_sound", "check", "memory"]
