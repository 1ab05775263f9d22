"""All tests: one folder for each floor, and what spans them."""
