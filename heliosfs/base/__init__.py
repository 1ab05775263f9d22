"""The ground floor: identifiers, keys, record codecs, digests, errors, limits, clock.

Knows nothing of input and output. Every other floor may import it; it imports none of them.
"""
