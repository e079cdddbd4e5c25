"""Vector indexes on disk: store, build, search. No torch; faiss only below `ragkit.index.faiss`."""

if __name__ != "ragkit.index":
    raise ImportError("this folder is the package ragkit.index: write `import ragkit.index`")
