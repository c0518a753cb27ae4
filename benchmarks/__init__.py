"""The measurements reported in the documentation; none of them is a test."""
