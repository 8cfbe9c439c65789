"""Samplers of other libraries, in parallel: each file needs its own library, which is no dependency of this one."""
