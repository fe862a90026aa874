//! Ranges of an ordered key space driven by coprocessors.
