"""SUMO behind libsumo: the same streets, driven by the simulator that our own dynamics are compared with.

Needs the extra `sumo`. Nothing here is imported by the rest of the domain, so it runs without.
"""
