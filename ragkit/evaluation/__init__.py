"""How good is it: metrics and the runs that compute them."""
