"""What callers get. Each answer is made from one noun of the domain and holds no secret by construction."""
