"""Measures klepaas beside a stated floor, both in one run, and prints what it saw as ratios.

Times of two runs cannot be compared on a shared machine; two sides that take turns within one run can."""
