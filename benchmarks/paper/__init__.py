"""`python -m benchmarks paper --row ROW`: a row of the tables of ParaDiGMS, with the user's weights and devices."""
