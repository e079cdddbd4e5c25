"""Recipes of two stages that tune a language model, a retriever, or the order of a corpus."""

if __name__ != "ragkit.finetune":
    raise ImportError("this folder is the package ragkit.finetune: write `import ragkit.finetune`")
