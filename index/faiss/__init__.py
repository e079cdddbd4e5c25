"""The only package that talks to faiss."""
