"""Three consumers of cachekit, each a module to run and to copy from: ``python -m examples.NAME``.

``error_profile`` caches a result that is expensive to assemble, ``passkey_challenge`` spends a value once, and
``adaptive_loop`` keeps snapshots of a text. They need rich: ``pip install '.[examples]'``.
"""
