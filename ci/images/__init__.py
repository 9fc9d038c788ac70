"""The images as a graph of contents: what goes in decides the key, the key decides what is built.

An image's *manifest* names every input with a digest: each file of its build context (path, mode, link target,
content), its arguments, its external bases, its parents' keys. The *key* is the hash of the manifest and is carried by
the built image as a label, together with the manifest. An image is current when one with its key exists, so there is
no database that could disagree with what is there, and `why` can always name the first input that differs.

    declaration (docker/images.toml) -> model -> contents -> manifest, key -> plan -> contexts, bake -> verify

Nothing is inferred from Dockerfiles or from git. The build context holds the manifest's files and nothing else: what
was not declared is missing at build time, loudly.
"""
