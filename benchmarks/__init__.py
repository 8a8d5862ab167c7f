"""Speed and memory, as ratios against the simplest correct version of each stage."""
