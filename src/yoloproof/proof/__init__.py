"""Is this artifact still the same detector?"""
